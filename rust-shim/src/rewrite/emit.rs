//! This file implements the writing of the rewritten module, section by section.

use std::ops::Range;

use wasm_encoder::reencode::Reencode;
use wasm_encoder::{
    CodeSection, ElementSection, EntityType, ExportKind, ExportSection, GlobalSection,
    ImportSection, Module, RawSection, Section, StartSection, TableSection, TypeSection,
};
use wasmparser::{
    CodeSectionReader, CustomSectionReader, ExportSectionReader, ImportSectionReader, Parser,
    Payload, TypeSectionReader, WasmFeatures,
};

use super::code::Splicer;
use super::custom::{self, Fate};
use super::layout::{Layout, Mover};
use super::{IMPORT_MODULE, RewriteError};

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
        imports_written: false,
        exports_written: false,
    };
    let mut parser = Parser::new(0);
    parser.set_features(features);
    for payload in parser.parse_all(wasm) {
        emitter.payload(payload?)?;
    }
    Ok(emitter.module.finish())
}

struct Emitter<'a> {
    wasm: &'a [u8],
    features: WasmFeatures,
    layout: &'a Layout<'a>,
    module: Module,
    imports_written: bool,
    exports_written: bool,
}

impl Emitter<'_> {
    /// Writes one section, and before it those that the original lacks and that belong there.
    fn payload(&mut self, payload: Payload<'_>) -> Result<(), RewriteError> {
        let section = payload.as_section();
        let start = section.as_ref().map_or(0, |(_, range)| range.start);
        let failed = |error| RewriteError::reencode(start, error);
        let mut mover = Mover(self.layout);
        match payload {
            Payload::TypeSection(reader) => return self.types(reader),
            Payload::ImportSection(reader) => return self.imports(Some(reader)),
            Payload::CustomSection(reader) => return self.custom(&reader),
            // The code section is rewritten as a whole, below.
            Payload::CodeSectionEntry(_) | Payload::Version { .. } | Payload::End(_) => {
                return Ok(());
            }
            _ => {}
        }
        // Only the two sections above may stand before the imports.
        if !self.imports_written {
            self.imports(None)?;
        }
        match payload {
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
            Payload::StartSection { func, .. } => {
                self.exports_before()?;
                let function_index = self.layout.moved_function(func);
                self.write(&StartSection { function_index });
            }
            Payload::ElementSection(reader) => {
                self.exports_before()?;
                let mut elements = ElementSection::new();
                mover
                    .parse_element_section(&mut elements, reader)
                    .map_err(failed)?;
                self.write(&elements);
            }
            Payload::DataCountSection { .. } => {
                self.exports_before()?;
                self.copy(section)?;
            }
            Payload::CodeSectionStart { range, .. } => {
                self.exports_before()?;
                self.code(range)?;
            }
            // Functions, memories and tags hold no function index; neither do data, since the constant expressions
            // there are numbers. What is none of these is not in a valid module.
            _ => self.copy(section)?,
        }
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

    fn types(&mut self, reader: TypeSectionReader<'_>) -> Result<(), RewriteError> {
        let range = reader.range();
        let mut types = TypeSection::new();
        Mover(self.layout)
            .parse_type_section(&mut types, reader)
            .map_err(|error| RewriteError::reencode(range.start, error))?;
        for &(op, memory64) in &self.layout.added_types {
            let params = op.params(memory64).into_iter().map(number_type);
            types.ty().function(params, [wasm_encoder::ValType::I32]);
        }
        self.write(&types);
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
        self.write(&imports);
        self.imports_written = true;
        Ok(())
    }

    /// Writes the export section, if it is not written, as one is due after here that must follow it.
    fn exports_before(&mut self) -> Result<(), RewriteError> {
        if self.exports_written {
            return Ok(());
        }
        self.exports(None)
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
        for (name, memory) in &self.layout.added_exports {
            exports.export(name, ExportKind::Memory, *memory);
        }
        if !exports.is_empty() {
            self.write(&exports);
        }
        self.exports_written = true;
        Ok(())
    }

    fn code(&mut self, range: Range<usize>) -> Result<(), RewriteError> {
        let mut code = CodeSection::new();
        let mut splicer = Splicer::new(self.layout);
        for body in self.bodies(&range)? {
            splicer.add(&mut code, &body?)?;
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
                let bodies = self.bodies(&self.layout.code)?;
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

/// A number type, in wasm-encoder's words.
fn number_type(ty: wasmparser::ValType) -> wasm_encoder::ValType {
    match ty {
        wasmparser::ValType::I64 => wasm_encoder::ValType::I64,
        _ => wasm_encoder::ValType::I32,
    }
}
