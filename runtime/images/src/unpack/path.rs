//! Paths of entries, cleaned of what has no meaning and refused where they mean to leave.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use super::UnpackError;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// aufs kept its own files under this prefix; they mean nothing to anyone else.
const AUFS: &[u8] = b".wh..wh.";
/// Names in one path. True images have thirty; overlay and tools that walk a tree need not bear more.
const DEEPEST: usize = 1024;

/// Where an entry goes: names from the root, none of them empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryPath(Vec<OsString>);

/// What an entry's name says, before its type is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The layer's own root.
    Root,
    /// Something to make.
    Make(EntryPath),
    /// This path of the layers below is gone.
    Whiteout(EntryPath),
    /// All that the layers below have in this directory (empty: the root) is gone.
    Opaque(EntryPath),
    /// Nothing.
    Ignore,
}

impl EntryPath {
    /// Cleans a path: leading slashes, doubled slashes and `.` go; `..` is refused, as no tool that makes layers writes it, and so is a
    /// path of more than [`DEEPEST`] names.
    pub(super) fn clean(bytes: &[u8]) -> Result<Self, UnpackError> {
        let refuse = |problem: &str| UnpackError::Entry { path: show(bytes), problem: problem.to_owned() };
        let mut names = Vec::new();
        for name in bytes.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return Err(refuse("has `..` in its path")),
                name if name.contains(&0) => return Err(refuse("has a zero byte in its path")),
                _ if names.len() == DEEPEST => return Err(refuse("has more than 1024 names in its path")),
                name => names.push(OsString::from_vec(name.to_vec())),
            }
        }
        Ok(Self(names))
    }

    /// The directories above, and the name in the last of them; `None` for the root.
    pub(super) fn split(&self) -> Option<(&[OsString], &OsStr)> {
        self.0.split_last().map(|(name, parents)| (parents, name.as_os_str()))
    }

    pub(super) fn names(&self) -> &[OsString] {
        &self.0
    }

    /// Reads the conventions of the image specification in the last name.
    pub(super) fn meaning(mut self) -> Result<Meaning, UnpackError> {
        let Some(name) = self.0.last() else { return Ok(Meaning::Root) };
        let name = name.as_bytes();
        if name == OPAQUE {
            self.0.pop();
            return Ok(Meaning::Opaque(self));
        }
        if name.starts_with(AUFS) {
            return Ok(Meaning::Ignore);
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(Meaning::Make(self)) };
        if matches!(hidden, b"" | b"." | b"..") {
            let problem = "is a whiteout of nothing".to_owned();
            return Err(UnpackError::Entry { path: show(name), problem });
        }
        let hidden = OsString::from_vec(hidden.to_vec());
        self.0.pop();
        self.0.push(hidden);
        Ok(Meaning::Whiteout(self))
    }
}

/// An entry's path for a message: cut, and with nothing in it that a terminal would obey.
pub(super) fn show(path: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = path.get(..LONGEST).unwrap_or(path).escape_ascii().to_string();
    match path.len() > LONGEST {
        true => format!("`{text}...`"),
        false => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(path: &str) -> Result<Meaning, String> {
        EntryPath::clean(path.as_bytes()).and_then(EntryPath::meaning).map_err(|error| error.to_string())
    }

    fn path(text: &str) -> EntryPath {
        EntryPath(text.split('/').filter(|name| !name.is_empty()).map(OsString::from).collect())
    }

    #[test]
    fn names_are_read_as_the_image_specification_has_them() {
        let cases = [
            ("./", Meaning::Root),
            ("", Meaning::Root),
            ("/etc//./passwd", Meaning::Make(path("etc/passwd"))),
            ("a/.wh.b", Meaning::Whiteout(path("a/b"))),
            (".wh.b", Meaning::Whiteout(path("b"))),
            ("a/.wh..wh..opq", Meaning::Opaque(path("a"))),
            (".wh..wh..opq", Meaning::Opaque(path(""))),
            (".wh..wh.plnk/1", Meaning::Make(path(".wh..wh.plnk/1"))),
            (".wh..wh.aufs", Meaning::Ignore),
            ("a/.wh....", Meaning::Whiteout(path("a/..."))),
        ];
        for (text, expected) in cases {
            assert_eq!(meaning(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn paths_that_mean_to_leave_are_refused() {
        for text in ["../x", "a/../../x", "/..", "a/..", ".wh.", "a/.wh...", "a/.wh..", "a\0b"] {
            assert!(meaning(text).is_err(), "{text:?}: {:?}", meaning(text));
        }
    }

    #[test]
    fn a_path_has_an_end() {
        let deep = |count: usize| meaning(&"a/".repeat(count));
        assert!(matches!(deep(DEEPEST), Ok(Meaning::Make(_))));
        let refused = deep(DEEPEST + 1).unwrap_err();
        assert!(refused.ends_with(&format!("has more than {DEEPEST} names in its path")), "{refused}");
    }

    #[test]
    fn a_path_in_a_message_is_short_and_harmless() {
        assert_eq!(show(b"\x1b[2Jx"), r"`\x1b[2Jx`");
        assert!(show(&[b'a'; 5000]).len() < 210);
    }
}
