//! For the fuzz targets: the reader of wasm that a stranger made. Not a part of the API.

use super::imports::check;
use super::inspect::{Shape, inspect};

/// Any bytes. What is read must be what the names in it say, and the answer must be fit to be shown.
pub fn inspect_any(bytes: &[u8]) {
    let shape = match inspect(bytes) {
        Ok(shape) => shape,
        Err(refusal) => return assert!(!refusal.to_string().is_empty()),
    };
    let known = [("wasi_snapshot_preview1".to_owned(), "fd_write".to_owned())];
    if let (Shape::Module { imports, has_start }, Ok(())) = (&shape, check(&shape, &known)) {
        assert!(*has_start && imports.iter().all(|import| known.contains(import)));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Files in `fuzz/seeds`.
    fn seeds(target: &str) -> impl Iterator<Item = Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
        let seeds: Vec<_> = std::fs::read_dir(directory).expect("seeds").collect();
        assert!(!seeds.is_empty());
        seeds.into_iter().map(|seed| std::fs::read(seed.expect("seed").path()).expect("read"))
    }

    #[test]
    fn what_holds_of_any_input_holds_of_the_seeds() {
        seeds("wasm-inspect").for_each(|bytes| inspect_any(&bytes));
    }
}
