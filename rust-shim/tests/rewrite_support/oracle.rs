//! A second opinion on what a rewrite must be: it reads the original and the result with wasmparser, says for each
//! item and instruction of the original what must have become of it, and compares. It shares no code with the
//! rewrite.

use std::collections::BTreeSet;

use lindshim::rewrite::{GrateModule, IMPORT_MODULE, Plan, WaitOp};
use wasmparser::{
    ConstExpr, DataKind, ElementItems, ElementKind, ExternalKind, MemArg, MemoryType, Operator,
    Parser, Payload, TableInit, TypeRef, WasmFeatures,
};

/// Asserts that `rewritten` is `original` with what `plan` says, and with nothing else changed.
pub fn assert_faithful(original: &[u8], rewritten: &[u8], plan: &Plan, features: WasmFeatures) {
    let mut expected = Items::read(original, Some(plan), None, features);
    let found = Items::read(rewritten, None, None, features);
    for name in &plan.added_exports {
        let import = plan
            .imports
            .iter()
            .find(|import| import.memory_export == *name);
        let memory = import
            .expect("an added export is some import's memory")
            .memory;
        expected.exports.push(format!("{name:?} Memory {memory}"));
    }
    assert_added(&mut expected, &found, plan);
}

/// Asserts that `rewritten` is what `original` must be as a grate, and that nothing else has changed. Answers how many
/// active segments there were.
pub fn assert_faithful_grate(
    original: &[u8],
    rewritten: &GrateModule,
    features: WasmFeatures,
) -> usize {
    let plan = &rewritten.plan;
    let grated = Grated::read(original, features);
    let active = grated.active.len();
    let mut expected = Items::read(original, Some(plan), Some(grated), features);
    let found = Items::read(&rewritten.bytes, None, None, features);
    let grated = expected.grated.take().expect("the same");
    // What is added is there; what it must be, other tests say.
    let exports = found.exports.get(expected.exports.len()..);
    let exports = exports.expect("no export is lost");
    for (name, export) in plan.added_exports.iter().zip(exports) {
        assert!(export.starts_with(&format!("{name:?} ")), "{export}");
    }
    assert_eq!(exports.len(), plan.added_exports.len());
    expected.exports.extend_from_slice(exports);
    let init = plan.init_function.expect("a grate has it");
    let export = format!("{:?} Func {init}", rewritten.grate.init);
    assert!(expected.exports.contains(&export), "{export}");

    let declared = found.functions.last().expect("the init function").clone();
    expected.functions.push(declared);
    expected.memory = grated.memory;
    expected.bodies.extend(grated.init);
    if !grated.active.is_empty() {
        let segments = grated.segments + u32::from(grated.empty);
        expected.data_count = Some(segments);
    }
    if grated.empty {
        expected.others.push("data passive []".to_owned());
    }
    assert_added(&mut expected, &found, plan);
    active
}

/// What a grate must be, as far as it takes another look at the original to know.
struct Grated {
    active: BTreeSet<u32>,
    segments: u32,
    /// Whether some code names an active segment, so that there must be an empty one.
    empty: bool,
    /// The memory that must be imported.
    memory: Option<MemoryType>,
    /// The code of the init function.
    init: Vec<String>,
}

impl Grated {
    fn read(wasm: &[u8], features: WasmFeatures) -> Self {
        let mut grated = Self {
            active: BTreeSet::new(),
            segments: 0,
            empty: false,
            memory: None,
            init: Vec::new(),
        };
        let mut named = BTreeSet::new();
        let mut parser = Parser::new(0);
        parser.set_features(features);
        for payload in parser.parse_all(wasm) {
            match payload.expect("a valid module") {
                Payload::CodeSectionEntry(body) => {
                    for operator in body.get_operators_reader().unwrap() {
                        match operator.unwrap() {
                            Operator::MemoryInit { data_index: s, .. }
                            | Operator::DataDrop { data_index: s }
                            | Operator::ArrayNewData {
                                array_data_index: s,
                                ..
                            }
                            | Operator::ArrayInitData {
                                array_data_index: s,
                                ..
                            } => named.insert(s),
                            _ => false,
                        };
                    }
                }
                Payload::DataSection(section) => {
                    for (data, index) in section.into_iter().zip(0..) {
                        grated.segments += 1;
                        if let DataKind::Active { .. } = data.unwrap().kind {
                            grated.active.insert(index);
                        }
                    }
                }
                _ => {}
            }
        }
        grated.empty = grated.active.intersection(&named).next().is_some();
        grated
    }
}

/// Adds the functions of the plan to what is expected, and compares.
fn assert_added(expected: &mut Items<'_>, found: &Items<'_>, plan: &Plan) {
    for import in &plan.imports {
        let position = expected.imports.len();
        let Some(line) = found.imports.get(position) else {
            panic!("import {} is missing", import.name);
        };
        let named = format!("{IMPORT_MODULE:?} {:?} Func(", import.name);
        assert!(line.starts_with(&named), "{line} should be {named}");
        expected.imports.push(line.clone());
    }
    if let Some(memory) = expected.memory {
        let maximum = Some(memory.maximum.unwrap_or(65536));
        let shared = true;
        let memory = TypeRef::Memory(MemoryType {
            maximum,
            shared,
            ..memory
        });
        let line = format!("{IMPORT_MODULE:?} \"memory\" {memory:?}");
        expected.imports.push(line);
    }
    let added_types = found
        .types
        .get(expected.types.len()..)
        .expect("no type is lost");
    expected.types.extend_from_slice(added_types);
    assert_same("type", &expected.types, &found.types);
    assert_same("import", &expected.imports, &found.imports);
    assert_same("function", &expected.functions, &found.functions);
    assert_eq!(expected.data_count, found.data_count);
    assert_same("declaration", &expected.others, &found.others);
    assert_same("export", &expected.exports, &found.exports);
    assert_same("body", &expected.bodies, &found.bodies);
}

fn assert_same(what: &str, expected: &[String], found: &[String]) {
    for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
        assert_eq!(expected, found, "{what} {i}");
    }
    assert_eq!(expected.len(), found.len(), "the number of {what} lines");
}

/// A module as lines of text.
#[derive(Default)]
struct Items<'a> {
    plan: Option<&'a Plan>,
    shared: Vec<bool>,
    types: Vec<String>,
    imports: Vec<String>,
    functions: Vec<String>,
    data_count: Option<u32>,
    /// The memory that the original defines and a grate imports.
    memory: Option<MemoryType>,
    grated: Option<Grated>,
    others: Vec<String>,
    exports: Vec<String>,
    bodies: Vec<String>,
}

impl<'a> Items<'a> {
    /// Reads a module; with a plan, says what it must become.
    fn read(
        wasm: &[u8],
        plan: Option<&'a Plan>,
        grated: Option<Grated>,
        features: WasmFeatures,
    ) -> Self {
        let mut items = Self {
            plan,
            grated,
            ..Self::default()
        };
        let mut parser = Parser::new(0);
        parser.set_features(features);
        for payload in parser.parse_all(wasm) {
            items.payload(payload.expect("a valid module"));
        }
        if let Some(grated) = &mut items.grated {
            // The start function is read before the data, and called after them.
            let start = grated.init.iter().position(|line| line.starts_with("Call"));
            if let Some(start) = start {
                let call = grated.init.remove(start);
                grated.init.push(call);
            }
            grated.init.push(format!("{:?}", Operator::End));
        }
        items
    }

    fn payload(&mut self, payload: Payload<'_>) {
        match payload {
            Payload::TypeSection(section) => {
                for group in section.into_iter().map(Result::unwrap) {
                    let explicit = group.is_explicit_rec_group();
                    let types = group.types().map(|ty| format!("{explicit} {ty:?}"));
                    self.types.extend(types);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports().map(Result::unwrap) {
                    let line = format!("{:?} {:?} {:?}", import.module, import.name, import.ty);
                    self.imports.push(line);
                    if let TypeRef::Memory(memory) = import.ty {
                        self.shared.push(memory.shared);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                let types = section
                    .into_iter()
                    .map(|ty| format!("function {}", ty.unwrap()));
                self.functions.extend(types);
            }
            Payload::MemorySection(section) => {
                for memory in section.into_iter().map(Result::unwrap) {
                    if let Some(grated) = &mut self.grated {
                        grated.memory = Some(memory);
                        self.shared.push(true);
                        continue;
                    }
                    self.others.push(format!("{memory:?}"));
                    self.shared.push(memory.shared);
                }
            }
            Payload::TagSection(section) => {
                let tags = section.into_iter().map(|tag| format!("{:?}", tag.unwrap()));
                self.others.extend(tags);
            }
            Payload::TableSection(section) => {
                for table in section.into_iter().map(Result::unwrap) {
                    let init = match table.init {
                        TableInit::RefNull => String::new(),
                        TableInit::Expr(expr) => self.expr(&expr),
                    };
                    self.others.push(format!("{:?} {init}", table.ty));
                }
            }
            Payload::GlobalSection(section) => {
                for global in section.into_iter().map(Result::unwrap) {
                    let init = self.expr(&global.init_expr);
                    self.others.push(format!("{:?} {init}", global.ty));
                }
            }
            Payload::ExportSection(section) => {
                for export in section.into_iter().map(Result::unwrap) {
                    let index = match export.kind {
                        ExternalKind::Func => self.function(export.index),
                        _ => export.index,
                    };
                    self.exports
                        .push(format!("{:?} {:?} {index}", export.name, export.kind));
                }
            }
            Payload::StartSection { func, .. } => {
                let function_index = self.function(func);
                match &mut self.grated {
                    None => self.others.push(format!("start {function_index}")),
                    Some(grated) => {
                        let call = Operator::Call { function_index };
                        grated.init.push(format!("{call:?}"));
                    }
                }
            }
            Payload::ElementSection(section) => {
                for element in section.into_iter().map(Result::unwrap) {
                    let kind = match element.kind {
                        ElementKind::Passive => "passive".to_owned(),
                        ElementKind::Declared => "declared".to_owned(),
                        ElementKind::Active {
                            table_index,
                            offset_expr,
                        } => format!("in {table_index:?} at {}", self.expr(&offset_expr)),
                    };
                    let items = match element.items {
                        ElementItems::Functions(functions) => {
                            let moved = functions.into_iter().map(|f| self.function(f.unwrap()));
                            format!("{:?}", moved.collect::<Vec<_>>())
                        }
                        ElementItems::Expressions(ty, exprs) => {
                            let exprs = exprs.into_iter().map(|expr| self.expr(&expr.unwrap()));
                            format!("{ty:?} {:?}", exprs.collect::<Vec<_>>())
                        }
                    };
                    self.others.push(format!("element {kind} {items}"));
                }
            }
            Payload::DataCountSection { count, .. } => {
                let empty = self.grated.as_ref().is_some_and(|grated| grated.empty);
                self.data_count = Some(count + u32::from(empty));
            }
            Payload::DataSection(section) => {
                for (data, segment) in section.into_iter().map(Result::unwrap).zip(0..) {
                    let kind = match data.kind {
                        DataKind::Active { offset_expr, .. } if self.grated.is_some() => {
                            self.initialize(segment, &offset_expr, data.data.len());
                            "passive".to_owned()
                        }
                        DataKind::Passive => "passive".to_owned(),
                        DataKind::Active {
                            memory_index,
                            offset_expr,
                        } => format!("in {memory_index} at {}", self.expr(&offset_expr)),
                    };
                    self.others.push(format!("data {kind} {:?}", data.data));
                }
            }
            Payload::CodeSectionEntry(body) => {
                let mut locals = body.get_locals_reader().unwrap();
                for _ in 0..locals.get_count() {
                    self.bodies
                        .push(format!("local {:?}", locals.read().unwrap()));
                }
                for operator in body.get_operators_reader().unwrap() {
                    let lines = self.operator(operator.unwrap());
                    self.bodies.extend(lines);
                }
            }
            _ => {}
        }
    }

    /// What the init function must do with an active segment.
    fn initialize(&mut self, segment: u32, offset: &ConstExpr<'_>, len: usize) {
        let mut lines: Vec<_> = offset
            .get_operators_reader()
            .into_iter()
            .map(|operator| format!("{:?}", operator.unwrap()))
            .collect();
        lines.pop();
        let len = i32::try_from(len).expect("short");
        for operator in [
            Operator::I32Const { value: 0 },
            Operator::I32Const { value: len },
            Operator::MemoryInit {
                data_index: segment,
                mem: 0,
            },
            Operator::DataDrop {
                data_index: segment,
            },
        ] {
            lines.push(format!("{operator:?}"));
        }
        let grated = self.grated.as_mut().expect("a grate");
        grated.init.extend(lines);
    }

    /// Which segment an instruction must name.
    fn segment(&self, segment: u32) -> u32 {
        match &self.grated {
            Some(grated) if grated.active.contains(&segment) => grated.segments,
            _ => segment,
        }
    }

    /// What one instruction must become.
    fn operator(&self, operator: Operator<'_>) -> Vec<String> {
        let replaced = match &operator {
            Operator::MemoryAtomicWait32 { memarg } => self.replaced(WaitOp::Wait32, memarg),
            Operator::MemoryAtomicWait64 { memarg } => self.replaced(WaitOp::Wait64, memarg),
            Operator::MemoryAtomicNotify { memarg } => self.replaced(WaitOp::Notify, memarg),
            _ => None,
        };
        if let Some(replaced) = replaced {
            return replaced
                .iter()
                .map(|operator| format!("{operator:?}"))
                .collect();
        }
        let moved = match operator {
            Operator::Call { function_index: f } => Operator::Call {
                function_index: self.function(f),
            },
            Operator::ReturnCall { function_index: f } => Operator::ReturnCall {
                function_index: self.function(f),
            },
            Operator::RefFunc { function_index: f } => Operator::RefFunc {
                function_index: self.function(f),
            },
            Operator::MemoryInit { data_index, mem } => Operator::MemoryInit {
                data_index: self.segment(data_index),
                mem,
            },
            Operator::DataDrop { data_index } => Operator::DataDrop {
                data_index: self.segment(data_index),
            },
            Operator::ArrayNewData {
                array_type_index,
                array_data_index,
            } => Operator::ArrayNewData {
                array_type_index,
                array_data_index: self.segment(array_data_index),
            },
            Operator::ArrayInitData {
                array_type_index,
                array_data_index,
            } => Operator::ArrayInitData {
                array_type_index,
                array_data_index: self.segment(array_data_index),
            },
            other => other,
        };
        vec![format!("{moved:?}")]
    }

    /// The instructions in place of a wait or notify, if there must be others.
    fn replaced(&self, op: WaitOp, memarg: &MemArg) -> Option<[Operator<'static>; 2]> {
        let plan = self.plan?;
        // A grate that only notifies is left alone.
        if plan.imports.is_empty() || !self.shared[memarg.memory as usize] {
            return None;
        }
        let is_it = |(import_op, memory): (WaitOp, u32)| import_op == op && memory == memarg.memory;
        let position = plan.imports.iter().position(|i| is_it((i.op, i.memory)));
        let position = u32::try_from(position.expect("an import for it")).unwrap();
        let function_index = plan.first_function + position;
        let value = memarg.offset.cast_signed();
        Some([
            Operator::I64Const { value },
            Operator::Call { function_index },
        ])
    }

    /// Where a function must have moved.
    fn function(&self, function: u32) -> u32 {
        match self.plan {
            Some(plan) if function >= plan.first_function => {
                function + u32::try_from(plan.imports.len()).unwrap()
            }
            _ => function,
        }
    }

    /// What a constant expression must become.
    fn expr(&self, expr: &ConstExpr<'_>) -> String {
        let operators = expr.get_operators_reader().into_iter();
        let lines = operators.flat_map(|operator| self.operator(operator.unwrap()));
        lines.collect::<Vec<_>>().join("; ")
    }
}
