//! A second opinion on what a rewrite must be: it reads the original and the result with wasmparser, says for each
//! item and instruction of the original what must have become of it, and compares. It shares no code with the
//! rewrite.

use lindshim::rewrite::{IMPORT_MODULE, Plan, WaitOp};
use wasmparser::{
    ConstExpr, ElementItems, ElementKind, ExternalKind, MemArg, Operator, Parser, Payload,
    TableInit, TypeRef, WasmFeatures,
};

/// Asserts that `rewritten` is `original` with what `plan` says, and with nothing else changed.
pub fn assert_faithful(original: &[u8], rewritten: &[u8], plan: &Plan, features: WasmFeatures) {
    let mut expected = Items::read(original, Some(plan), features);
    let found = Items::read(rewritten, None, features);
    for import in &plan.imports {
        let position = expected.imports.len();
        let Some(line) = found.imports.get(position) else {
            panic!("import {} is missing", import.name);
        };
        let named = format!("{IMPORT_MODULE:?} {:?} Func(", import.name);
        assert!(line.starts_with(&named), "{line} should be {named}");
        expected.imports.push(line.clone());
    }
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
    let added_types = found
        .types
        .get(expected.types.len()..)
        .expect("no type is lost");
    expected.types.extend_from_slice(added_types);
    assert_same("type", &expected.types, &found.types);
    assert_same("import", &expected.imports, &found.imports);
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
    others: Vec<String>,
    exports: Vec<String>,
    bodies: Vec<String>,
}

impl<'a> Items<'a> {
    /// Reads a module; with a plan, says what it must become.
    fn read(wasm: &[u8], plan: Option<&'a Plan>, features: WasmFeatures) -> Self {
        let mut items = Self {
            plan,
            ..Self::default()
        };
        let mut parser = Parser::new(0);
        parser.set_features(features);
        for payload in parser.parse_all(wasm) {
            items.payload(payload.expect("a valid module"));
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
                self.others.extend(types);
            }
            Payload::MemorySection(section) => {
                for memory in section.into_iter().map(Result::unwrap) {
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
                self.others.push(format!("start {}", self.function(func)));
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
                self.others.push(format!("data count {count}"));
            }
            Payload::DataSection(section) => {
                for data in section.into_iter().map(Result::unwrap) {
                    let kind = match data.kind {
                        wasmparser::DataKind::Passive => "passive".to_owned(),
                        wasmparser::DataKind::Active {
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
            other => other,
        };
        vec![format!("{moved:?}")]
    }

    /// The instructions in place of a wait or notify, if there must be others.
    fn replaced(&self, op: WaitOp, memarg: &MemArg) -> Option<[Operator<'static>; 2]> {
        let plan = self.plan?;
        if !self.shared[memarg.memory as usize] {
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
