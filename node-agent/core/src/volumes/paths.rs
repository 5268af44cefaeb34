//! Paths of files in a volume: inside it, and no file where another needs a directory.

use super::{Files, VolumeError};

/// Cleans every path or refuses the volume.
pub(super) fn check(files: Files) -> Result<Files, VolumeError> {
    let mut checked = Files::new();
    for (path, file) in files {
        checked.insert(clean(&path)?, file);
    }
    let mut last: Option<&str> = None;
    for path in checked.keys() {
        if let Some(file) = last.filter(|file| path.strip_prefix(*file).is_some_and(|rest| rest.starts_with('/'))) {
            return Err(VolumeError::Path { path: file.to_owned(), why: "must not be a directory of another file" });
        }
        // `a`, `a.b`, `a/c` sort in this order: only a shorter one can be a directory.
        if last.is_none_or(|file| !path.starts_with(file)) {
            last = Some(path);
        }
    }
    Ok(checked)
}

fn clean(path: &str) -> Result<String, VolumeError> {
    let refuse = |why| Err(VolumeError::Path { path: path.to_owned(), why });
    if path.is_empty() {
        return refuse("must not be empty");
    }
    if path.starts_with('/') {
        return refuse("must be relative path");
    }
    if path.len() > 4096 {
        return refuse("must be less than or equal to 4096 characters");
    }
    if path.contains('\0') {
        return refuse("must not contain a NUL byte");
    }
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return refuse("must not contain '..'");
    }
    match parts.first() {
        None => refuse("must not be empty"),
        // `..data` and its like are how a volume is changed at once.
        Some(first) if first.starts_with("..") => refuse("must not start with '..'"),
        Some(_) => Ok(parts.join("/")),
    }
}
