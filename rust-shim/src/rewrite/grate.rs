//! This file implements what a module must become so that several instances of it over one memory are one program.

use std::collections::BTreeSet;

use wasm_encoder::reencode::Reencode;
use wasm_encoder::{CodeSection, DataSection, Encode, Instruction};
use wasmparser::{
    CompositeInnerType, ConstExpr, CustomSectionReader, Data, DataKind, DataSectionReader,
    ExternalKind, FunctionBody, GlobalType, Import, KnownCustom, MemoryType, Name,
    NameSectionReader, Parser, Payload, RefType, TypeRef, ValType, WasmFeatures,
};

use super::code::{self, data_segment};
use super::layout::{AddedExport, Exports, Layout, Mover};
use super::survey::{ATOMIC_PREFIX, Survey, check_import};
use super::{IMPORT_MODULE, RewriteError};

/// The name of a memory that the module defined itself, in the import that takes its place.
pub(super) const MEMORY: &str = "memory";

/// How the name of the init function's export begins; it is all of it unless the module has that name itself.
pub(super) const INIT: &str = "lindshim:init";

/// What linkers call the table of functions.
const FUNCTION_TABLE: &str = "__indirect_function_table";

/// How the name of the function table's export begins if the module means something else by the linkers' name.
const OWN_FUNCTION_TABLE: &str = "lindshim:table";

/// The most pages of 64 KiB that a memory with 32-bit indices can have.
const MAX_PAGES: u64 = 65536;

/// The first bytes of the instructions that may name a data segment: of bulk memory and of garbage collection.
const DATA_PREFIXES: [u8; 2] = [0xfc, 0xfb];

/// What the host must know of a grate besides its [`Plan`](super::Plan).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GratePlan {
    /// The name of the exported init function, of type () -> (): `lindshim:init`, unless the module has an export of
    /// that name.
    pub init: String,
    /// The memory that all instances share; `None` if the module has no memory at all.
    pub memory: Option<GrateMemory>,
    /// Whether the module was built with a shared memory. If not, its code does not expect another thread in its
    /// memory: only one instance may run at a time.
    pub was_shared: bool,
    /// The stack pointer of the guest's C stack, a mutable global of type i32: `__stack_pointer`.
    pub stack_pointer: Symbol,
    /// The function that sets up thread-local storage, of type (i32) -> (): `__wasm_init_tls`.
    pub init_tls: Symbol,
    /// How many bytes thread-local storage takes, a global of type i32: `__tls_size`.
    pub tls_size: Symbol,
    /// The alignment of thread-local storage in bytes, a global of type i32: `__tls_align`.
    pub tls_align: Symbol,
    /// The name under which the table that function pointers index is exported. It is what the module exports as
    /// `__indirect_function_table`, or else table 0, under whatever name the module or this rewrite gave it; `None` if
    /// there is no such table of functions.
    pub function_table: Option<String>,
}

/// The memory of a grate. It is imported and shared, and has index 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrateMemory {
    /// The import's module name: [`IMPORT_MODULE`] if the module defined the memory itself.
    pub module: String,
    /// The import's name.
    pub name: String,
    /// How many pages of 64 KiB it has at first.
    pub min_pages: u64,
    /// The most pages of 64 KiB that it may grow to. A memory with fewer satisfies the import too.
    pub max_pages: u64,
    /// Whether the module defined it itself.
    pub defined: bool,
}

/// Whether the host can use something that linkers give a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    /// The module exports it.
    Exported,
    /// The module has it, as its name section says, but did not export it; now it does.
    Added,
    /// The module exports something else under this name.
    Unfit,
    /// The module does not have it.
    Missing,
}

impl Symbol {
    /// Whether it is exported under its name and is what the name says.
    pub fn usable(self) -> bool {
        matches!(self, Self::Exported | Self::Added)
    }
}

/// A thing with a name that linkers give.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    name: &'static str,
    what: What,
}

/// What it has to be.
#[derive(Debug, Clone, Copy)]
enum What {
    /// A mutable global of type i32.
    MutableGlobal,
    /// A global of type i32, mutable or not.
    Global,
    /// A function (i32) -> ().
    Function,
}

/// The symbols, in the order of [`GratePlan`].
const SYMBOLS: [Wanted; 4] = [
    Wanted {
        name: "__stack_pointer",
        what: What::MutableGlobal,
    },
    Wanted {
        name: "__wasm_init_tls",
        what: What::Function,
    },
    Wanted {
        name: "__tls_size",
        what: What::Global,
    },
    Wanted {
        name: "__tls_align",
        what: What::Global,
    },
];

/// Whether an export of this name matters to a [`GratePlan`].
pub(super) fn is_known(name: &str) -> bool {
    name == FUNCTION_TABLE || SYMBOLS.iter().any(|symbol| symbol.name == name)
}

/// What the rewrite has to know of a valid module.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    /// What it does with its memory, which counts as shared: it will be.
    pub(super) survey: Survey,
    memory: Option<Memory<'a>>,
    /// For each type, whether it is (i32) -> ().
    takes_i32: Vec<bool>,
    /// The type of each function.
    functions: Vec<u32>,
    globals: Vec<GlobalType>,
    /// The element type of each table.
    tables: Vec<RefType>,
    start: Option<u32>,
    /// The active segments in order.
    active: Vec<Active<'a>>,
    /// For each data segment, whether it is active.
    is_active: Vec<bool>,
    /// The segments that instructions name.
    named_data: BTreeSet<u32>,
    /// For each of [`SYMBOLS`], what the name section says it is.
    named: [Option<u32>; SYMBOLS.len()],
}

/// The memory, as the module has it.
#[derive(Debug)]
struct Memory<'a> {
    ty: MemoryType,
    /// Module name and name, if it is imported.
    import: Option<(&'a str, &'a str)>,
}

/// A data segment that an instantiation copies into the memory.
#[derive(Debug)]
struct Active<'a> {
    segment: u32,
    offset: ConstExpr<'a>,
    len: usize,
}

impl<'a> Facts<'a> {
    /// Reads the module. Precondition: it is valid with `features`.
    pub(super) fn read(wasm: &'a [u8], features: WasmFeatures) -> Result<Self, RewriteError> {
        let mut facts = Self::default();
        // The names are read last: only then is it known what they could name.
        let mut names = Vec::new();
        let mut parser = Parser::new(0);
        parser.set_features(features);
        for payload in parser.parse_all(wasm) {
            match payload? {
                Payload::CustomSection(section) => names.extend(name_section(&section)),
                payload => facts.payload(payload)?,
            }
        }
        for section in names {
            facts.names(section);
        }
        if !facts.survey.waits() {
            // Nobody to notify, as in a module that is no grate.
            facts.survey.used.clear();
        }
        Ok(facts)
    }

    fn payload(&mut self, payload: Payload<'a>) -> Result<(), RewriteError> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    let types = group?;
                    self.takes_i32.extend(types.types().map(|ty| {
                        matches!(&ty.composite_type.inner, CompositeInnerType::Func(func)
                            if func.params() == [ValType::I32] && func.results().is_empty())
                    }));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports_with_offsets() {
                    let (offset, import) = import?;
                    check_import(offset, &import)?;
                    self.import(&import)?;
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    self.tables.push(table?.ty.element_type);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.memory(memory?, None)?;
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    self.globals.push(global?.ty);
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::CodeSectionEntry(body) => self.body(&body)?,
            Payload::DataSection(section) => {
                for (data, segment) in section.into_iter().zip(0..) {
                    self.data(data?, segment);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, import: &Import<'a>) -> Result<(), RewriteError> {
        match import.ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.survey.imported_functions += 1;
                self.functions.push(ty);
            }
            TypeRef::Memory(memory) => self.memory(memory, Some((import.module, import.name)))?,
            TypeRef::Global(global) => self.globals.push(global),
            TypeRef::Table(table) => self.tables.push(table.element_type),
            TypeRef::Tag(_) => {}
        }
        Ok(())
    }

    /// Takes the one memory that a grate may have.
    fn memory(
        &mut self,
        ty: MemoryType,
        import: Option<(&'a str, &'a str)>,
    ) -> Result<(), RewriteError> {
        let wrong = if self.memory.is_some() {
            Some("has more than one memory")
        } else if ty.memory64 {
            Some("has a memory with 64-bit indices")
        } else if ty.page_size_log2.is_some() {
            Some("has a memory with pages of a size of its own")
        } else if import.is_some() && !ty.shared {
            Some(
                "imports a memory that is not shared; define it in the module, or link with --shared-memory",
            )
        } else {
            None
        };
        if let Some(what) = wrong {
            return Err(RewriteError::Grate { what });
        }
        self.survey.memories.push(MemoryType { shared: true, ..ty });
        self.memory = Some(Memory { ty, import });
        Ok(())
    }

    /// Looks through one function, unless no instruction in it can matter.
    fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), RewriteError> {
        let matters = |byte: &u8| *byte == ATOMIC_PREFIX || DATA_PREFIXES.contains(byte);
        if !body.as_bytes().iter().any(matters) {
            return Ok(());
        }
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            self.survey.note(&operator);
            self.named_data.extend(data_segment(&operator));
        }
        Ok(())
    }

    fn data(&mut self, data: Data<'a>, segment: u32) {
        self.is_active
            .push(matches!(data.kind, DataKind::Active { .. }));
        if let DataKind::Active { offset_expr, .. } = data.kind {
            self.active.push(Active {
                segment,
                offset: offset_expr,
                len: data.data.len(),
            });
        }
    }

    /// Looks for the symbols in a name section. The first name that fits counts. Nobody has validated the section: it
    /// is read as far as it can be.
    fn names(&mut self, section: NameSectionReader<'_>) {
        for subsection in section {
            let (map, functions) = match subsection {
                Ok(Name::Function(map)) => (map, true),
                Ok(Name::Global(map)) => (map, false),
                Ok(_) => continue,
                Err(_) => return,
            };
            for naming in map {
                let Ok(naming) = naming else { return };
                for (i, symbol) in SYMBOLS.iter().enumerate() {
                    if symbol.name == naming.name
                        && matches!(symbol.what, What::Function) == functions
                        && self.named[i].is_none()
                        && self.fits(*symbol, naming.index)
                    {
                        self.named[i] = Some(naming.index);
                    }
                }
            }
        }
    }

    /// Whether the function or global `index`, which need not exist, is what `symbol` has to be.
    fn fits(&self, symbol: Wanted, index: u32) -> bool {
        let Ok(index) = usize::try_from(index) else {
            return false;
        };
        match symbol.what {
            What::Function => self
                .functions
                .get(index)
                .and_then(|&ty| self.takes_i32.get(usize::try_from(ty).ok()?))
                .is_some_and(|&takes_i32| takes_i32),
            what => self.globals.get(index).is_some_and(|global| {
                let mutable = global.mutable || matches!(what, What::Global);
                global.content_type == ValType::I32 && mutable && !global.shared
            }),
        }
    }

    /// Whether table `index` holds functions.
    fn holds_functions(&self, index: u32) -> bool {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.tables.get(index))
            .is_some_and(|&element| element == RefType::FUNCREF || element == RefType::FUNC)
    }

    /// Decides. `functions` is how many functions the rewritten module has without the init function; `moved` takes a
    /// function index there.
    pub(super) fn decide(
        self,
        exports: &Exports<'_>,
        functions: u32,
        moved: impl Fn(u32) -> u32,
    ) -> (Grate<'a>, GratePlan) {
        let mut added = Vec::new();
        let init = exports.free_name(INIT);
        added.push(AddedExport {
            name: init.clone(),
            kind: ExternalKind::Func,
            index: functions,
        });
        let symbols = [0, 1, 2, 3].map(|i| self.symbol(i, exports, &mut added, &moved));
        let [stack_pointer, init_tls, tls_size, tls_align] = symbols;
        let function_table = self.function_table(exports, &mut added);
        let segments = u32::try_from(self.is_active.len()).unwrap_or(u32::MAX);
        let named = |active: &Active<'_>| self.named_data.contains(&active.segment);
        let empty = self.active.iter().any(named).then_some(segments);
        let memory = self.memory.as_ref();
        let plan = GratePlan {
            init,
            memory: memory.map(Memory::plan),
            was_shared: memory.is_some_and(|memory| memory.ty.shared),
            stack_pointer,
            init_tls,
            tls_size,
            tls_align,
            function_table,
        };
        let grate = Grate {
            memory: memory.and_then(Memory::becomes_import),
            added,
            init_function: functions,
            start: self.start.map(moved),
            active: self.active,
            is_active: self.is_active,
            segments,
            empty,
        };
        (grate, plan)
    }

    /// What is to be said of symbol `i`, which is exported if that is all it lacks.
    fn symbol(
        &self,
        i: usize,
        exports: &Exports<'_>,
        added: &mut Vec<AddedExport>,
        moved: impl Fn(u32) -> u32,
    ) -> Symbol {
        let symbol = SYMBOLS[i];
        let kind = match symbol.what {
            What::Function => ExternalKind::Func,
            What::Global | What::MutableGlobal => ExternalKind::Global,
        };
        if let Some(&(exported, index)) = exports.known.get(symbol.name) {
            let fits = exported == kind && self.fits(symbol, index);
            return if fits {
                Symbol::Exported
            } else {
                Symbol::Unfit
            };
        }
        let Some(index) = self.named[i] else {
            return Symbol::Missing;
        };
        added.push(AddedExport {
            name: symbol.name.to_owned(),
            kind,
            index: match symbol.what {
                What::Function => moved(index),
                What::Global | What::MutableGlobal => index,
            },
        });
        Symbol::Added
    }

    /// The name of the function table's export, which is added if there is none.
    fn function_table(
        &self,
        exports: &Exports<'_>,
        added: &mut Vec<AddedExport>,
    ) -> Option<String> {
        let known = exports.known.get(FUNCTION_TABLE);
        if let Some(&(ExternalKind::Table, index)) = known
            && self.holds_functions(index)
        {
            return Some(FUNCTION_TABLE.to_owned());
        }
        if !self.holds_functions(0) {
            return None;
        }
        if let Some(name) = exports.first_table {
            return Some(name.to_owned());
        }
        let name = match known {
            None => FUNCTION_TABLE.to_owned(),
            Some(_) => exports.free_name(OWN_FUNCTION_TABLE),
        };
        added.push(AddedExport {
            name: name.clone(),
            kind: ExternalKind::Table,
            index: 0,
        });
        Some(name)
    }
}

/// The names in a custom section, if it is there for that.
fn name_section<'a>(section: &CustomSectionReader<'a>) -> Option<NameSectionReader<'a>> {
    match section.as_known() {
        KnownCustom::Name(names) => Some(names),
        _ => None,
    }
}

impl Memory<'_> {
    fn max_pages(&self) -> u64 {
        self.ty.maximum.unwrap_or(MAX_PAGES)
    }

    fn plan(&self) -> GrateMemory {
        let (module, name) = self.import.unwrap_or((IMPORT_MODULE, MEMORY));
        GrateMemory {
            module: module.to_owned(),
            name: name.to_owned(),
            min_pages: self.ty.initial,
            max_pages: self.max_pages(),
            defined: self.import.is_none(),
        }
    }

    /// The type of the import that takes its place, if it is not an import already.
    fn becomes_import(&self) -> Option<wasm_encoder::MemoryType> {
        self.import.is_none().then(|| wasm_encoder::MemoryType {
            minimum: self.ty.initial,
            maximum: Some(self.max_pages()),
            memory64: false,
            shared: true,
            page_size_log2: None,
        })
    }
}

/// What becomes of a module that is a grate.
#[derive(Debug)]
pub(super) struct Grate<'a> {
    /// The memory to import in place of the defined one.
    pub(super) memory: Option<wasm_encoder::MemoryType>,
    /// The exports to add.
    pub(super) added: Vec<AddedExport>,
    /// The new index of the init function: after all others.
    pub(super) init_function: u32,
    /// The new index of the start function.
    start: Option<u32>,
    active: Vec<Active<'a>>,
    is_active: Vec<bool>,
    /// How many data segments the original has.
    segments: u32,
    /// The index of a segment that is added, passive and empty, if an instruction names an active one. To instructions,
    /// an active segment is always dropped, for no code runs before it is; and to them, dropped means empty.
    empty: Option<u32>,
}

impl Grate<'_> {
    /// The segment that an instruction has to name instead of `segment`.
    pub(super) fn moved_data(&self, segment: u32) -> u32 {
        let index = usize::try_from(segment).ok();
        let active = index.and_then(|index| self.is_active.get(index));
        match self.empty {
            Some(empty) if active.is_some_and(|&active| active) => empty,
            _ => segment,
        }
    }

    /// How many data segments the rewritten module has.
    pub(super) fn data_count(&self) -> u32 {
        self.segments
            .saturating_add(u32::from(self.empty.is_some()))
    }

    /// Whether there must be a data count, whether or not the original has one: the init function names segments.
    pub(super) fn needs_data_count(&self) -> bool {
        !self.active.is_empty()
    }

    /// The data section, with all segments passive.
    pub(super) fn data(&self, section: DataSectionReader<'_>) -> Result<DataSection, RewriteError> {
        let mut passive = DataSection::new();
        for data in section {
            passive.passive(data?.data.iter().copied());
        }
        if self.empty.is_some() {
            passive.passive([]);
        }
        Ok(passive)
    }

    /// Adds the init function, which does what an instantiation does once it has filled the tables.
    pub(super) fn add_init(
        &self,
        layout: &Layout<'_>,
        section: &mut CodeSection,
    ) -> Result<(), RewriteError> {
        // It has no locals.
        let mut body = vec![0];
        for active in &self.active {
            let start = active.offset.get_binary_reader().original_position();
            let offset = Mover(layout)
                .const_expr(active.offset.clone())
                .map_err(|error| RewriteError::reencode(start, error))?;
            offset.encode(&mut body);
            // The end of the expression is not that of the function.
            body.pop();
            // The length is unsigned, and below the limit for a module: the bits are what counts.
            let len = u32::try_from(active.len).unwrap_or(u32::MAX);
            Instruction::I32Const(0).encode(&mut body);
            Instruction::I32Const(len.cast_signed()).encode(&mut body);
            Instruction::MemoryInit {
                mem: 0,
                data_index: active.segment,
            }
            .encode(&mut body);
            Instruction::DataDrop(active.segment).encode(&mut body);
        }
        if let Some(start) = self.start {
            Instruction::Call(start).encode(&mut body);
        }
        Instruction::End.encode(&mut body);
        code::add_body(section, &body)
    }
}
