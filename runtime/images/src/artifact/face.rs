//! What a component imports and exports, read from its outermost sections.

use wasmparser::{BinaryReaderError, Parser, Payload};

use crate::format::{Component, Refusal};

/// Names of the component's own imports and exports, sorted, not those of components inside it.
pub(super) fn of_component(bytes: &[u8]) -> Result<Component, Refusal> {
    let unreadable = |error: BinaryReaderError| Refusal::NotWasm(format!("a damaged component: {error}"));
    let mut face = Component::default();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "of some forty sections four matter")]
        match payload.map_err(unreadable)? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    face.imports.push(import.map_err(unreadable)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    face.exports.push(export.map_err(unreadable)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    face.imports.sort();
    face.exports.sort();
    Ok(face)
}
