//! This file implements what becomes of custom sections. Nobody has validated them: what cannot be read in one is
//! left out, as Wasmtime leaves it out.

use std::collections::HashMap;

use wasm_encoder::{BranchHint, BranchHints, IndirectNameMap, NameMap, NameSection};
use wasmparser::{
    BranchHintSectionReader, CodeSectionReader, CustomSectionReader, KnownCustom, Name,
    NameSectionReader,
};

use super::RewriteError;
use super::code::Splicer;
use super::emit::bytes;
use super::grate;
use super::layout::Layout;

/// What to do with a custom section. The [module documentation](super) has the table.
pub(super) enum Fate<'a> {
    Copied,
    Dropped,
    Names(NameSectionReader<'a>),
    BranchHints(BranchHintSectionReader<'a>),
}

/// Decides by the section's name.
pub(super) fn fate<'a>(section: &CustomSectionReader<'a>) -> Fate<'a> {
    match section.as_known() {
        KnownCustom::Name(names) => return Fate::Names(names),
        KnownCustom::BranchHints(hints) => return Fate::BranchHints(hints),
        _ => {}
    }
    let name = section.name();
    let dropped = [".debug_", "metadata.code.", "reloc."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || [
            "linking",
            "sourceMappingURL",
            "external_debug_info",
            "build_id",
        ]
        .contains(&name);
    if dropped { Fate::Dropped } else { Fate::Copied }
}

/// Moves the function indices in a name section. Names of functions that do not exist are left out: moved or not, they
/// could name a function that has another name, or none.
pub(super) fn moved_names(
    layout: &Layout<'_>,
    wasm: &[u8],
    section: NameSectionReader<'_>,
) -> Result<NameSection, RewriteError> {
    let mut names = NameSection::new();
    let mut init = layout.grate.as_ref().map(|grate| grate.init_function);
    for subsection in section {
        let Ok(subsection) = subsection else { break };
        match subsection {
            Name::Module { name, .. } => names.module(name),
            Name::Function(map) => {
                let mut moved = NameMap::new();
                let mut malformed = false;
                for naming in map {
                    let Ok(naming) = naming else {
                        malformed = true;
                        break;
                    };
                    if let Some(function) = layout.moved_function_checked(naming.index) {
                        moved.append(function, naming.name);
                    }
                }
                // So that a backtrace through it explains itself.
                if let Some(init) = init.take() {
                    moved.append(init, grate::INIT);
                }
                names.functions(&moved);
                // Wasmtime reads no further either, so what follows must not begin to count.
                if malformed {
                    break;
                }
            }
            Name::Local(map) => names.locals(&moved_indirect(layout, map)),
            Name::Label(map) => names.labels(&moved_indirect(layout, map)),
            Name::Type(map) => names.raw(4, bytes(wasm, &map.range())?),
            Name::Table(map) => names.raw(5, bytes(wasm, &map.range())?),
            Name::Memory(map) => names.raw(6, bytes(wasm, &map.range())?),
            Name::Global(map) => names.raw(7, bytes(wasm, &map.range())?),
            Name::Element(map) => names.raw(8, bytes(wasm, &map.range())?),
            Name::Data(map) => names.raw(9, bytes(wasm, &map.range())?),
            Name::Field(map) => names.raw(10, bytes(wasm, &map.range())?),
            Name::Tag(map) => names.raw(11, bytes(wasm, &map.range())?),
            Name::Unknown { ty, data, .. } => names.raw(ty, data),
        }
    }
    Ok(names)
}

/// Moves the function indices in names that belong to a function, such as those of its locals.
fn moved_indirect(layout: &Layout<'_>, map: wasmparser::IndirectNameMap<'_>) -> IndirectNameMap {
    let mut moved = IndirectNameMap::new();
    for function in map {
        let Ok(function) = function else { break };
        let Some(index) = layout.moved_function_checked(function.index) else {
            continue;
        };
        let mut inner = NameMap::new();
        for naming in function.names {
            let Ok(naming) = naming else { break };
            inner.append(naming.index, naming.name);
        }
        moved.append(index, &inner);
    }
    moved
}

/// Moves the function indices and code offsets of branch hints. A section that is malformed anywhere is dropped, and of
/// two entries for one function the first counts: Wasmtime does the same, and it keeps the work linear.
pub(super) fn moved_branch_hints(
    layout: &Layout<'_>,
    section: BranchHintSectionReader<'_>,
    bodies: CodeSectionReader<'_>,
) -> Result<Option<BranchHints>, RewriteError> {
    let mut hinted = HashMap::new();
    for function in section {
        let Ok(function) = function else {
            return Ok(None);
        };
        hinted.entry(function.func).or_insert(function.hints);
    }
    let mut moved = BranchHints::new();
    let mut splicer = Splicer::new(layout);
    let imported = layout.functions.saturating_sub(bodies.count());
    for (body, function) in bodies.into_iter().zip(imported..) {
        let Some(hints) = hinted.remove(&function) else {
            continue;
        };
        splicer.splice(&body?)?;
        let mut kept = Vec::new();
        for hint in hints {
            let Ok(hint) = hint else { return Ok(None) };
            if let Some(offset) = splicer.moved(hint.func_offset) {
                kept.push(BranchHint {
                    branch_func_offset: offset,
                    branch_hint_value: u32::from(hint.taken),
                });
            }
        }
        moved.function_hints(layout.moved_function(function), kept);
    }
    Ok((!moved.is_empty()).then_some(moved))
}
