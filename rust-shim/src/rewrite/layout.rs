//! This file implements the decisions of a rewrite, all taken before the first byte is written: which imports, types
//! and exports to add, and where functions move.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use wasm_encoder::reencode::{Error, Reencode};
use wasmparser::{
    CompositeInnerType, ExportSectionReader, ExternalKind, Parser, Payload, RecGroup, SubType,
    TypeSectionReader, ValType, WasmFeatures,
};

use super::survey::Survey;
use super::{Plan, RewriteError, WaitImport, WaitOp};

/// wasmparser's limit for functions, exports and types, each.
const MAX_ITEMS: usize = 1_000_000;

/// How the names of added exports begin.
const EXPORT_PREFIX: &str = "lindshim:memory:";

/// The type of an added import: operation, and whether the memory has 64-bit indices.
pub(super) type Signature = (WaitOp, bool);

/// What becomes of one module.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    survey: &'a Survey,
    imports: Vec<WaitImport>,
    /// The exports to add: name and memory.
    pub(super) added_exports: Vec<(String, u32)>,
    /// The type index for each kind of import.
    signatures: BTreeMap<Signature, u32>,
    /// The kinds whose type is not in the module yet, in the order of their new indices.
    pub(super) added_types: Vec<Signature>,
    /// How many functions the original has, imported ones included.
    pub(super) functions: u32,
    /// Where the contents of the original's code section are.
    pub(super) code: Range<usize>,
}

impl<'a> Layout<'a> {
    /// Decides. Preconditions: the module is valid with `features`; `survey` is of the same module.
    pub(super) fn new(
        wasm: &'a [u8],
        features: WasmFeatures,
        survey: &'a Survey,
    ) -> Result<Self, RewriteError> {
        let mut types = Types::new(survey);
        let mut exports = Exports::default();
        let mut functions = survey.imported_functions;
        let mut code = 0..0;
        let mut parser = Parser::new(0);
        parser.set_features(features);
        for payload in parser.parse_all(wasm) {
            match payload? {
                Payload::TypeSection(section) => types.find(section)?,
                Payload::FunctionSection(section) => functions += section.count(),
                Payload::ExportSection(section) => exports.read(section)?,
                Payload::CodeSectionStart { range, .. } => {
                    code = range;
                    break;
                }
                _ => {}
            }
        }
        let mut layout = Self {
            survey,
            imports: Vec::new(),
            added_exports: Vec::new(),
            added_types: types.missing(),
            signatures: BTreeMap::new(),
            functions,
            code,
        };
        layout.signatures = types.indices(&layout.added_types);
        layout.plan_imports(&exports);
        let added = layout.imports.len();
        check_limit("the number of functions", functions, added)?;
        check_limit("the number of types", types.count, layout.added_types.len())?;
        check_limit(
            "the number of exports",
            exports.count,
            layout.added_exports.len(),
        )?;
        Ok(layout)
    }

    /// Names an import, and its memory's export, for each operation in use.
    fn plan_imports(&mut self, exports: &Exports<'_>) {
        for &(memory, op) in &self.survey.used {
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
        if let Some((name, _)) = self.added_exports.iter().find(|(_, of)| *of == memory) {
            return name.clone();
        }
        let mut name = format!("{EXPORT_PREFIX}{memory}");
        // Each round meets another name of the module's, so there are no more rounds than exports.
        let mut round = 0_u64;
        while exports.reserved.contains(name.as_str()) {
            round += 1;
            name = format!("{EXPORT_PREFIX}{memory}:{round}");
        }
        self.added_exports.push((name.clone(), memory));
        name
    }

    /// Whether `memory` has 64-bit indices.
    fn memory64(&self, memory: u32) -> bool {
        let index = usize::try_from(memory).ok();
        index
            .and_then(|index| self.survey.memories.get(index))
            .is_some_and(|memory| memory.memory64)
    }

    /// How many imports are added.
    fn added(&self) -> u32 {
        // At most three for each of the memories, whose number the validator bounds.
        u32::try_from(self.imports.len()).unwrap_or(u32::MAX)
    }

    /// The new index of a function of the original.
    pub(super) fn moved_function(&self, function: u32) -> u32 {
        if function < self.survey.imported_functions {
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
        self.survey.imported_functions.checked_add(position)
    }

    /// The added imports, in order: name and type index.
    pub(super) fn added_imports(&self) -> impl Iterator<Item = (&str, u32)> {
        self.imports.iter().filter_map(|import| {
            let ty = self.signatures.get(&(import.op, import.memory64))?;
            Some((import.name.as_str(), *ty))
        })
    }

    /// What the host needs to know.
    pub(super) fn into_plan(self) -> Plan {
        Plan {
            imports: self.imports,
            added_exports: self
                .added_exports
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
            first_function: self.survey.imported_functions,
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
    fn new(survey: &Survey) -> Self {
        let wanted = survey.used.iter().filter_map(|&(memory, op)| {
            let memory = survey.memories.get(usize::try_from(memory).ok()?)?;
            Some(((op, memory.memory64), None))
        });
        Self {
            wanted: wanted.collect(),
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
        if !plain || func.results() != [ValType::I32] {
            return;
        }
        for (&(op, memory64), found) in &mut self.wanted {
            if found.is_none() && func.params() == op.params(memory64) {
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

/// The exports that matter to the names of added ones.
#[derive(Default)]
struct Exports<'a> {
    /// Each exported memory's first name.
    memories: BTreeMap<u32, &'a str>,
    /// The names that an added one could clash with.
    reserved: HashSet<&'a str>,
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
            if export.name.starts_with(EXPORT_PREFIX) {
                self.reserved.insert(export.name);
            }
        }
        Ok(())
    }
}

/// Refuses to add `added` to `present` things if there would be too many.
fn check_limit(what: &'static str, present: u32, added: usize) -> Result<(), RewriteError> {
    let total = usize::try_from(present)
        .ok()
        .and_then(|n| n.checked_add(added));
    match total {
        Some(total) if total <= MAX_ITEMS => Ok(()),
        _ => Err(RewriteError::Limit {
            what,
            limit: MAX_ITEMS,
        }),
    }
}
