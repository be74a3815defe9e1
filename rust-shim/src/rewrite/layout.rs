//! This file implements the decisions of a rewrite, all taken before the first byte is written: which imports, types
//! and exports to add, and where functions move.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use wasm_encoder::reencode::{Error, Reencode};
use wasmparser::{
    CompositeInnerType, ExportSectionReader, ExternalKind, MemoryType, Parser, Payload, RecGroup,
    SubType, TypeSectionReader, ValType, WasmFeatures,
};

use super::grate::{self, Facts, Grate};
use super::survey::Survey;
use super::{GratePlan, Plan, RewriteError, WaitImport, WaitOp};

/// wasmparser's limit for functions, exports and types, each.
const MAX_ITEMS: usize = 1_000_000;

/// wasmparser's limit for data segments.
const MAX_DATA_SEGMENTS: usize = 100_000;

/// How the names of added exports begin, unless they are names that linkers give.
const EXPORT_PREFIX: &str = "lindshim:";

/// The type of an added function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signature {
    /// An import that stands in for an instruction.
    Wait { op: WaitOp, memory64: bool },
    /// The init function of a grate.
    Init,
}

impl Signature {
    pub(super) fn params(self) -> Vec<ValType> {
        match self {
            Self::Wait { op, memory64 } => op.params(memory64),
            Self::Init => Vec::new(),
        }
    }

    pub(super) fn results(self) -> &'static [ValType] {
        match self {
            Self::Wait { .. } => &[ValType::I32],
            Self::Init => &[],
        }
    }
}

/// An export to add.
#[derive(Debug)]
pub(super) struct AddedExport {
    pub(super) name: String,
    pub(super) kind: ExternalKind,
    /// The index in the rewritten module.
    pub(super) index: u32,
}

/// What becomes of one module.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    /// The memories, imported ones first, by index.
    memories: Vec<MemoryType>,
    /// How many functions the original imports.
    imported_functions: u32,
    imports: Vec<WaitImport>,
    /// The exports to add.
    pub(super) added_exports: Vec<AddedExport>,
    /// The type index for each kind of import.
    signatures: BTreeMap<Signature, u32>,
    /// The kinds whose type is not in the module yet, in the order of their new indices.
    pub(super) added_types: Vec<Signature>,
    /// How many functions the original has, imported ones included.
    pub(super) functions: u32,
    /// Where the contents of the original's code section are, if it has one.
    pub(super) code: Option<Range<usize>>,
    /// What else becomes of a grate.
    pub(super) grate: Option<Grate<'a>>,
}

impl<'a> Layout<'a> {
    /// Decides. Preconditions: the module is valid with `features`; `survey` is of the same module.
    pub(super) fn new(
        wasm: &'a [u8],
        features: WasmFeatures,
        survey: Survey,
    ) -> Result<Self, RewriteError> {
        let (layout, module) = Self::of_both(wasm, features, survey, false)?;
        layout.check_limits(&module)?;
        Ok(layout)
    }

    /// Decides for a grate. Preconditions: the module is valid with `features`; `facts` are of the same module.
    pub(super) fn of_grate(
        wasm: &'a [u8],
        features: WasmFeatures,
        mut facts: Facts<'a>,
    ) -> Result<(Self, GratePlan), RewriteError> {
        let survey = std::mem::take(&mut facts.survey);
        let (mut layout, module) = Self::of_both(wasm, features, survey, true)?;
        let functions = layout.functions.saturating_add(layout.added());
        let moved = |function| layout.moved_function(function);
        let (mut grate, plan) = facts.decide(&module.exports, functions, moved);
        layout.added_exports.append(&mut grate.added);
        layout.grate = Some(grate);
        layout.check_limits(&module)?;
        Ok((layout, plan))
    }

    /// Decides what grates and other modules have in common. With `init`, an init function is to be added.
    fn of_both(
        wasm: &'a [u8],
        features: WasmFeatures,
        survey: Survey,
        init: bool,
    ) -> Result<(Self, Original<'a>), RewriteError> {
        let mut types = Types::new(&survey, init);
        let mut exports = Exports::default();
        let mut functions = survey.imported_functions;
        let mut code = None;
        let mut parser = Parser::new(0);
        parser.set_features(features);
        for payload in parser.parse_all(wasm) {
            match payload? {
                Payload::TypeSection(section) => types.find(section)?,
                Payload::FunctionSection(section) => functions += section.count(),
                Payload::ExportSection(section) => exports.read(section)?,
                Payload::CodeSectionStart { range, .. } => {
                    code = Some(range);
                    break;
                }
                _ => {}
            }
        }
        let mut layout = Self {
            memories: survey.memories,
            imported_functions: survey.imported_functions,
            imports: Vec::new(),
            added_exports: Vec::new(),
            added_types: types.missing(),
            signatures: BTreeMap::new(),
            functions,
            code,
            grate: None,
        };
        layout.signatures = types.indices(&layout.added_types);
        layout.plan_imports(&survey.used, &exports);
        let original = Original {
            exports,
            types: count(types.count),
        };
        Ok((layout, original))
    }

    /// Refuses to add to a module that would then have too much.
    fn check_limits(&self, original: &Original<'_>) -> Result<(), RewriteError> {
        let grate = self.grate.as_ref();
        let added = self.imports.len();
        let init = usize::from(grate.is_some());
        check_limit(
            "the number of functions",
            count(self.functions),
            added + init,
            MAX_ITEMS,
        )?;
        check_limit(
            "the number of types",
            original.types,
            self.added_types.len(),
            MAX_ITEMS,
        )?;
        check_limit(
            "the number of exports",
            count(original.exports.count),
            self.added_exports.len(),
            MAX_ITEMS,
        )?;
        let segments = grate.map_or(0, Grate::data_count);
        check_limit(
            "the number of data segments",
            count(segments),
            0,
            MAX_DATA_SEGMENTS,
        )
    }

    /// Names an import, and its memory's export, for each operation in use.
    fn plan_imports(&mut self, used: &BTreeSet<(u32, WaitOp)>, exports: &Exports<'_>) {
        for &(memory, op) in used {
            let memory_export = match exports.memories.get(&memory) {
                Some(&name) => name.to_owned(),
                None => self.added_export(memory, exports),
            };
            self.imports.push(WaitImport {
                name: format!("{}:{memory}", op.prefix()),
                op,
                memory,
                memory64: self.memory64(memory),
                memory_export,
            });
        }
    }

    /// The name of the export added for `memory`, which is added if it is not yet.
    fn added_export(&mut self, memory: u32, exports: &Exports<'_>) -> String {
        // All that are there yet are memories.
        if let Some(export) = self.added_exports.iter().find(|e| e.index == memory) {
            return export.name.clone();
        }
        let name = exports.free_name(&format!("{EXPORT_PREFIX}memory:{memory}"));
        self.added_exports.push(AddedExport {
            name: name.clone(),
            kind: ExternalKind::Memory,
            index: memory,
        });
        name
    }

    /// Whether `memory` has 64-bit indices.
    fn memory64(&self, memory: u32) -> bool {
        let index = usize::try_from(memory).ok();
        index
            .and_then(|index| self.memories.get(index))
            .is_some_and(|memory| memory.memory64)
    }

    /// How many imports are added.
    fn added(&self) -> u32 {
        // At most three for each of the memories, whose number the validator bounds.
        u32::try_from(self.imports.len()).unwrap_or(u32::MAX)
    }

    /// The new index of a function of the original.
    pub(super) fn moved_function(&self, function: u32) -> u32 {
        if function < self.imported_functions {
            function
        } else {
            function.saturating_add(self.added())
        }
    }

    /// The new index of a function that something unvalidated names; `None` if there is no such function.
    pub(super) fn moved_function_checked(&self, function: u32) -> Option<u32> {
        (function < self.functions).then(|| self.moved_function(function))
    }

    /// The function that stands in for `op` on `memory`; `None` if the instruction stays as it is.
    pub(super) fn function_of(&self, memory: u32, op: WaitOp) -> Option<u32> {
        let key = (memory, op);
        let position = self
            .imports
            .binary_search_by_key(&key, |import| (import.memory, import.op))
            .ok()?;
        let position = u32::try_from(position).ok()?;
        self.imported_functions.checked_add(position)
    }

    /// The added imports, in order: name and type index.
    pub(super) fn added_imports(&self) -> impl Iterator<Item = (&str, u32)> {
        self.imports.iter().filter_map(|import| {
            let (op, memory64) = (import.op, import.memory64);
            let ty = self.signatures.get(&Signature::Wait { op, memory64 })?;
            Some((import.name.as_str(), *ty))
        })
    }

    /// The type index of a grate's init function.
    pub(super) fn init_type(&self) -> Option<u32> {
        self.signatures.get(&Signature::Init).copied()
    }

    /// The data segment that an instruction has to name instead of `segment`.
    pub(super) fn moved_data(&self, segment: u32) -> u32 {
        self.grate
            .as_ref()
            .map_or(segment, |grate| grate.moved_data(segment))
    }

    /// What the host needs to know.
    pub(super) fn into_plan(self) -> Plan {
        let added = self.added_exports.into_iter();
        Plan {
            imports: self.imports,
            added_exports: added.map(|export| export.name).collect(),
            first_function: self.imported_functions,
            init_function: self.grate.map(|grate| grate.init_function),
        }
    }
}

/// Copies what wasm-encoder parses, with function indices moved.
pub(super) struct Mover<'a>(pub(super) &'a Layout<'a>);

impl Reencode for Mover<'_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        Ok(self.0.moved_function(function))
    }
}

/// The search for function types that the module has already.
struct Types {
    wanted: BTreeMap<Signature, Option<u32>>,
    count: u32,
}

impl Types {
    fn new(survey: &Survey, init: bool) -> Self {
        let waits = survey.used.iter().filter_map(|&(memory, op)| {
            let memory = survey.memories.get(usize::try_from(memory).ok()?)?;
            let memory64 = memory.memory64;
            Some(Signature::Wait { op, memory64 })
        });
        let wanted = waits.chain(init.then_some(Signature::Init));
        Self {
            wanted: wanted.map(|signature| (signature, None)).collect(),
            count: 0,
        }
    }

    /// Looks for the wanted types and counts all.
    fn find(&mut self, section: TypeSectionReader<'_>) -> Result<(), RewriteError> {
        for group in section {
            let group: RecGroup = group?;
            let plain = !group.is_explicit_rec_group();
            for ty in group.types() {
                if plain {
                    self.offer(ty);
                }
                self.count += 1;
            }
        }
        Ok(())
    }

    /// Takes the type at index `count` for what is still wanted and equal to it.
    fn offer(&mut self, ty: &SubType) {
        let plain = ty.is_final
            && ty.supertype_idx.is_none()
            && !ty.composite_type.shared
            && ty.composite_type.descriptor_idx.is_none()
            && ty.composite_type.describes_idx.is_none();
        let CompositeInnerType::Func(func) = &ty.composite_type.inner else {
            return;
        };
        if !plain {
            return;
        }
        for (signature, found) in &mut self.wanted {
            if found.is_none()
                && func.results() == signature.results()
                && func.params() == signature.params()
            {
                *found = Some(self.count);
            }
        }
    }

    /// The types that the module lacks.
    fn missing(&self) -> Vec<Signature> {
        let lacks = self.wanted.iter().filter(|(_, found)| found.is_none());
        lacks.map(|(&signature, _)| signature).collect()
    }

    /// The index of each wanted type, once those in `added` are appended.
    fn indices(&self, added: &[Signature]) -> BTreeMap<Signature, u32> {
        let present = self
            .wanted
            .iter()
            .filter_map(|(&ty, found)| Some((ty, (*found)?)));
        let added = added.iter().copied().zip(self.count..);
        present.chain(added).collect()
    }
}

/// What the original has, for deciding what may be added.
struct Original<'a> {
    exports: Exports<'a>,
    types: usize,
}

/// The exports that matter to added ones.
#[derive(Default)]
pub(super) struct Exports<'a> {
    /// Each exported memory's first name.
    memories: BTreeMap<u32, &'a str>,
    /// The first name of table 0.
    pub(super) first_table: Option<&'a str>,
    /// The names that an added one could clash with.
    reserved: HashSet<&'a str>,
    /// What is exported under the names that linkers give: kind and index.
    pub(super) known: HashMap<&'a str, (ExternalKind, u32)>,
    count: u32,
}

impl<'a> Exports<'a> {
    fn read(&mut self, section: ExportSectionReader<'a>) -> Result<(), RewriteError> {
        self.count = section.count();
        for export in section {
            let export = export?;
            if export.kind == ExternalKind::Memory {
                self.memories.entry(export.index).or_insert(export.name);
            }
            if export.kind == ExternalKind::Table && export.index == 0 {
                self.first_table.get_or_insert(export.name);
            }
            if export.name.starts_with(EXPORT_PREFIX) {
                self.reserved.insert(export.name);
            }
            if grate::is_known(export.name) {
                let named = (export.kind, export.index);
                self.known.insert(export.name, named);
            }
        }
        Ok(())
    }

    /// A name that no export has: `wanted`, which begins with [`EXPORT_PREFIX`], or that with a number after it.
    pub(super) fn free_name(&self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        // Each round meets another name of the module's, so there are no more rounds than exports.
        let mut round = 0_u64;
        while self.reserved.contains(name.as_str()) {
            round += 1;
            name = format!("{wanted}:{round}");
        }
        name
    }
}

/// A number of items in the width in which they are added up.
fn count(items: u32) -> usize {
    usize::try_from(items).unwrap_or(usize::MAX)
}

/// Refuses to add `added` to `present` things if there would be more than `limit`.
fn check_limit(
    what: &'static str,
    present: usize,
    added: usize,
    limit: usize,
) -> Result<(), RewriteError> {
    if present.saturating_add(added) > limit {
        return Err(RewriteError::Limit { what, limit });
    }
    Ok(())
}
