//! What the images of a layout are called.

use super::LayoutError;
use crate::digest::Digest;
use crate::format::Descriptor;
use crate::reference::Reference;

/// The whole name, as containerd and docker write it.
pub(super) const WHOLE_NAME: &str = "io.containerd.image.name";
/// The specification's: a tag, or the whole name, as each tool has it.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image that `index.json` lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    digest: Digest,
    whole: Option<String>,
    short: Option<String>,
}

impl Entry {
    pub(super) fn of(descriptor: Descriptor) -> Self {
        let mut annotations = descriptor.annotations.unwrap_or_default();
        Self { digest: descriptor.digest, whole: annotations.remove(WHOLE_NAME), short: annotations.remove(REF_NAME) }
    }

    /// A bare tag is one of `unnamed`'s repository, and a nameless image is `unnamed` itself.
    fn reference(&self, unnamed: Option<&Reference>) -> Result<Reference, LayoutError> {
        let parse = |name: &str| {
            Reference::parse(name).map_err(|error| LayoutError::Name {
                digest: self.digest.clone(),
                name: name.to_owned(),
                error,
            })
        };
        let nameless = || LayoutError::NoName(self.digest.clone());
        match (&self.whole, &self.short) {
            (Some(name), _) => parse(name),
            (None, Some(name)) if name.contains(['/', ':']) => parse(name),
            (None, Some(tag)) => parse(&format!("{}:{tag}", unnamed.ok_or_else(nameless)?.name())),
            (None, None) => unnamed.cloned().ok_or_else(nameless),
        }
    }
}

/// Each image once, with its names in their order.
pub(super) fn images(
    entries: impl IntoIterator<Item = Entry>,
    unnamed: Option<&Reference>,
) -> Result<Vec<(Digest, Vec<Reference>)>, LayoutError> {
    let mut images: Vec<(Digest, Vec<Reference>)> = Vec::new();
    for entry in entries {
        let reference = entry.reference(unnamed)?;
        match images.iter_mut().find(|(digest, _)| *digest == entry.digest) {
            Some((_, names)) if names.contains(&reference) => {}
            Some((_, names)) => names.push(reference),
            None => images.push((entry.digest, vec![reference])),
        }
    }
    match images.is_empty() {
        true => Err(LayoutError::Format("there is no image in it".to_owned())),
        false => Ok(images),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(content: &str, whole: Option<&str>, short: Option<&str>) -> Entry {
        Entry {
            digest: Digest::of(content.as_bytes()),
            whole: whole.map(str::to_owned),
            short: short.map(str::to_owned),
        }
    }

    #[test]
    fn every_tools_way_to_name_an_image_is_understood() {
        let unnamed = Reference::parse("localhost/given:now").unwrap();
        let cases = [
            (entry("a", Some("docker.io/library/a:1"), Some("1")), Some("docker.io/library/a:1")),
            (entry("a", None, Some("r.test/a:2")), Some("r.test/a:2")),
            (entry("a", None, Some("a:2")), Some("docker.io/library/a:2")),
            (entry("a", None, Some("v3")), Some("localhost/given:v3")),
            (entry("a", None, None), Some("localhost/given:now")),
            (entry("a", Some("No:Such:Name"), None), None),
        ];
        for (entry, expected) in cases {
            let found = entry.reference(Some(&unnamed)).ok().map(|reference| reference.to_string());
            assert_eq!(found.as_deref(), expected, "{entry:?}");
        }
        for entry in [entry("a", None, Some("v3")), entry("a", None, None)] {
            assert!(matches!(entry.reference(None), Err(LayoutError::NoName(_))));
        }
    }

    #[test]
    fn an_image_with_two_names_is_one_image() {
        let all = [
            entry("a", Some("r.test/a:1"), None),
            entry("b", Some("r.test/b:1"), None),
            entry("a", Some("r.test/a:2"), None),
            entry("a", Some("r.test/a:1"), None),
        ];
        let names = |names: &[&str]| names.iter().map(|name| Reference::parse(name).unwrap()).collect::<Vec<_>>();
        let expected =
            vec![(Digest::of(b"a"), names(&["r.test/a:1", "r.test/a:2"])), (Digest::of(b"b"), names(&["r.test/b:1"]))];
        assert_eq!(images(all, None).unwrap(), expected);
        assert!(matches!(images([], None), Err(LayoutError::Format(_))));
    }
}
