//! This file implements the writing of the rewritten module, section by section.

use std::ops::Range;

use wasm_encoder::reencode::Reencode;
use wasm_encoder::{
    CodeSection, DataCountSection, ElementSection, EntityType, ExportKind, ExportSection,
    FunctionSection, GlobalSection, ImportSection, Module, RawSection, Section, SectionId,
    StartSection, TableSection, TypeSection,
};
use wasmparser::{
    CodeSectionReader, CustomSectionReader, ExportSectionReader, ExternalKind,
    FunctionSectionReader, ImportSectionReader, Parser, Payload, TypeSectionReader, WasmFeatures,
};

use super::code::Splicer;
use super::custom::{self, Fate};
use super::grate::{self, Grate};
use super::layout::{Layout, Mover};
use super::{IMPORT_MODULE, RewriteError};

/// The sections that the original may lack and the rewritten module have, in order.
const ADDED: [SectionId; 6] = [
    SectionId::Type,
    SectionId::Import,
    SectionId::Function,
    SectionId::Export,
    SectionId::DataCount,
    SectionId::Code,
];

/// Writes the module that `layout` decided on. Preconditions: `wasm` is valid with `features`, and `layout` is its own.
pub(super) fn emit(
    wasm: &[u8],
    features: WasmFeatures,
    layout: &Layout<'_>,
) -> Result<Vec<u8>, RewriteError> {
    let mut emitter = Emitter {
        wasm,
        features,
        layout,
        module: Module::new(),
        due: 0,
    };
    let mut parser = Parser::new(0);
    parser.set_features(features);
    for payload in parser.parse_all(wasm) {
        emitter.payload(payload?)?;
    }
    while emitter.due < ADDED.len() {
        emitter.add_due()?;
    }
    Ok(emitter.module.finish())
}

/// Where in a module the section with this number has its place, whatever its number is.
fn place(id: u8) -> usize {
    let order = [
        SectionId::Type,
        SectionId::Import,
        SectionId::Function,
        SectionId::Table,
        SectionId::Memory,
        SectionId::Tag,
        SectionId::Global,
        SectionId::Export,
        SectionId::Start,
        SectionId::Element,
        SectionId::DataCount,
        SectionId::Code,
        SectionId::Data,
    ];
    let place = order.iter().position(|&section| u8::from(section) == id);
    // There are no others in a valid module.
    place.unwrap_or(order.len())
}

struct Emitter<'a> {
    wasm: &'a [u8],
    features: WasmFeatures,
    layout: &'a Layout<'a>,
    module: Module,
    /// The first of [`ADDED`] that is not written yet.
    due: usize,
}

impl<'a> Emitter<'a> {
    /// Writes one section, and before it those that the original lacks and that belong there.
    fn payload(&mut self, payload: Payload<'_>) -> Result<(), RewriteError> {
        let section = payload.as_section();
        let start = section.as_ref().map_or(0, |(_, range)| range.start);
        let failed = |error| RewriteError::reencode(start, error);
        let mut mover = Mover(self.layout);
        match &payload {
            Payload::CustomSection(reader) => return self.custom(reader),
            // The code section is rewritten as a whole, below.
            Payload::CodeSectionEntry(_) | Payload::Version { .. } | Payload::End(_) => {
                return Ok(());
            }
            _ => {}
        }
        self.add_before(section.as_ref().map_or(0, |(id, _)| *id))?;
        match payload {
            Payload::TypeSection(reader) => self.types(Some(reader))?,
            Payload::ImportSection(reader) => self.imports(Some(reader))?,
            Payload::FunctionSection(reader) => self.functions(Some(reader))?,
            // It is imported now.
            Payload::MemorySection(_) if self.imported_memory().is_some() => {}
            Payload::TableSection(reader) => {
                let mut tables = TableSection::new();
                mover
                    .parse_table_section(&mut tables, reader)
                    .map_err(failed)?;
                self.write(&tables);
            }
            Payload::GlobalSection(reader) => {
                let mut globals = GlobalSection::new();
                mover
                    .parse_global_section(&mut globals, reader)
                    .map_err(failed)?;
                self.write(&globals);
            }
            Payload::ExportSection(reader) => self.exports(Some(reader))?,
            // The init function calls it.
            Payload::StartSection { .. } if self.layout.grate.is_some() => {}
            Payload::StartSection { func, .. } => {
                let function_index = self.layout.moved_function(func);
                self.write(&StartSection { function_index });
            }
            Payload::ElementSection(reader) => {
                let mut elements = ElementSection::new();
                mover
                    .parse_element_section(&mut elements, reader)
                    .map_err(failed)?;
                self.write(&elements);
            }
            Payload::DataCountSection { count, .. } => {
                let count = self.grate().map_or(count, Grate::data_count);
                self.write(&DataCountSection { count });
            }
            Payload::CodeSectionStart { range, .. } => self.code(Some(&range))?,
            Payload::DataSection(reader) if self.layout.grate.is_some() => {
                if let Some(grate) = self.grate() {
                    self.write(&grate.data(reader)?);
                }
            }
            // Memories and tags hold no function index; neither do data, since the constant expressions there are
            // numbers. What is none of these is not in a valid module.
            _ => self.copy(section)?,
        }
        Ok(())
    }

    /// What is special about a grate.
    fn grate(&self) -> Option<&'a Grate<'a>> {
        self.layout.grate.as_ref()
    }

    /// The memory to import, if it is not an import already.
    fn imported_memory(&self) -> Option<wasm_encoder::MemoryType> {
        self.grate().and_then(|grate| grate.memory)
    }

    /// Writes what the original lacks and what belongs before its section with this number, and counts that as written.
    fn add_before(&mut self, id: u8) -> Result<(), RewriteError> {
        while let Some(&due) = ADDED.get(self.due) {
            if place(u8::from(due)) >= place(id) {
                self.due += usize::from(u8::from(due) == id);
                break;
            }
            self.add_due()?;
        }
        Ok(())
    }

    /// Writes the section that is due and that the original lacks, if there is anything to be in it.
    fn add_due(&mut self) -> Result<(), RewriteError> {
        match ADDED.get(self.due) {
            Some(SectionId::Type) if !self.layout.added_types.is_empty() => self.types(None)?,
            Some(SectionId::Import) => self.imports(None)?,
            Some(SectionId::Function) if self.layout.grate.is_some() => self.functions(None)?,
            Some(SectionId::Export) => self.exports(None)?,
            Some(SectionId::DataCount) => {
                if let Some(grate) = self.grate().filter(|grate| grate.needs_data_count()) {
                    let count = grate.data_count();
                    self.write(&DataCountSection { count });
                }
            }
            Some(SectionId::Code) if self.layout.grate.is_some() => self.code(None)?,
            _ => {}
        }
        self.due += 1;
        Ok(())
    }

    fn write(&mut self, section: &impl Section) {
        self.module.section(section);
    }

    /// Copies a section as it is.
    fn copy(&mut self, section: Option<(u8, Range<usize>)>) -> Result<(), RewriteError> {
        let Some((id, range)) = section else {
            return Ok(());
        };
        let data = bytes(self.wasm, &range)?;
        self.write(&RawSection { id, data });
        Ok(())
    }

    /// Writes the type section, with the original's types (if it has any) before the added ones.
    fn types(&mut self, reader: Option<TypeSectionReader<'_>>) -> Result<(), RewriteError> {
        let mut types = TypeSection::new();
        if let Some(reader) = reader {
            let start = reader.range().start;
            Mover(self.layout)
                .parse_type_section(&mut types, reader)
                .map_err(|error| RewriteError::reencode(start, error))?;
        }
        for signature in &self.layout.added_types {
            let params = signature.params().into_iter().map(number_type);
            let results = signature.results().iter().copied().map(number_type);
            types.ty().function(params, results.collect::<Vec<_>>());
        }
        self.write(&types);
        Ok(())
    }

    /// Writes the function section, with the original's functions (if it has any) before the added one.
    fn functions(&mut self, reader: Option<FunctionSectionReader<'_>>) -> Result<(), RewriteError> {
        let mut functions = FunctionSection::new();
        if let Some(reader) = reader {
            for ty in reader {
                functions.function(ty?);
            }
        }
        if let Some(ty) = self.layout.init_type() {
            functions.function(ty);
        }
        self.write(&functions);
        Ok(())
    }

    /// Writes the import section, with the original's imports (if it has any) before the added ones.
    fn imports(&mut self, reader: Option<ImportSectionReader<'_>>) -> Result<(), RewriteError> {
        let mut imports = ImportSection::new();
        if let Some(reader) = reader {
            let start = reader.range().start;
            Mover(self.layout)
                .parse_import_section(&mut imports, reader)
                .map_err(|error| RewriteError::reencode(start, error))?;
        }
        for (name, ty) in self.layout.added_imports() {
            imports.import(IMPORT_MODULE, name, EntityType::Function(ty));
        }
        if let Some(memory) = self.imported_memory() {
            imports.import(IMPORT_MODULE, grate::MEMORY, memory);
        }
        if !imports.is_empty() {
            self.write(&imports);
        }
        Ok(())
    }

    /// Writes the export section, with the original's exports (if it has any) before the added ones.
    fn exports(&mut self, reader: Option<ExportSectionReader<'_>>) -> Result<(), RewriteError> {
        let mut exports = ExportSection::new();
        if let Some(reader) = reader {
            let start = reader.range().start;
            Mover(self.layout)
                .parse_export_section(&mut exports, reader)
                .map_err(|error| RewriteError::reencode(start, error))?;
        }
        for export in &self.layout.added_exports {
            exports.export(&export.name, export_kind(export.kind), export.index);
        }
        if !exports.is_empty() {
            self.write(&exports);
        }
        Ok(())
    }

    /// Writes the code section, with the original's functions (if it has any) before the added one.
    fn code(&mut self, range: Option<&Range<usize>>) -> Result<(), RewriteError> {
        let mut code = CodeSection::new();
        let mut splicer = Splicer::new(self.layout);
        if let Some(range) = range {
            for body in self.bodies(range)? {
                splicer.add(&mut code, &body?)?;
            }
        }
        if let Some(grate) = self.grate() {
            grate.add_init(self.layout, &mut code)?;
        }
        self.write(&code);
        Ok(())
    }

    fn custom(&mut self, section: &CustomSectionReader<'_>) -> Result<(), RewriteError> {
        match custom::fate(section) {
            Fate::Copied => self.copy(Some((0, section.range()))),
            Fate::Dropped => Ok(()),
            Fate::Names(names) => {
                let names = custom::moved_names(self.layout, self.wasm, names)?;
                self.write(&names);
                Ok(())
            }
            Fate::BranchHints(hints) => {
                // Without code there is nothing to hint at.
                let Some(code) = &self.layout.code else {
                    return Ok(());
                };
                let bodies = self.bodies(code)?;
                if let Some(hints) = custom::moved_branch_hints(self.layout, hints, bodies)? {
                    self.write(&hints);
                }
                Ok(())
            }
        }
    }

    /// A reader of the function bodies in the code section whose contents are at `range`.
    fn bodies(&self, range: &Range<usize>) -> Result<CodeSectionReader<'_>, RewriteError> {
        let data = bytes(self.wasm, range)?;
        let reader = wasmparser::BinaryReader::new_features(data, range.start, self.features);
        Ok(CodeSectionReader::new(reader)?)
    }
}

/// The bytes at `range`, which wasmparser said is within the module.
pub(super) fn bytes<'a>(wasm: &'a [u8], range: &Range<usize>) -> Result<&'a [u8], RewriteError> {
    wasm.get(range.clone())
        .ok_or_else(|| RewriteError::Invalid {
            offset: range.start,
            message: "a section ends after the module".to_owned(),
        })
}

/// The kind of an added export, in wasm-encoder's words.
fn export_kind(kind: ExternalKind) -> ExportKind {
    match kind {
        ExternalKind::Memory => ExportKind::Memory,
        ExternalKind::Table => ExportKind::Table,
        ExternalKind::Global => ExportKind::Global,
        ExternalKind::Tag => ExportKind::Tag,
        ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
    }
}

/// A number type, in wasm-encoder's words.
fn number_type(ty: wasmparser::ValType) -> wasm_encoder::ValType {
    match ty {
        wasmparser::ValType::I64 => wasm_encoder::ValType::I64,
        _ => wasm_encoder::ValType::I32,
    }
}
