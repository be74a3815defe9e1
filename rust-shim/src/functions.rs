//! Which function of a guest a thread was in.
//!
//! A stop asks that of each thread that runs guest code, while somebody waits for the thread to be gone. Wasmtime's own
//! backtrace walks the whole stack and describes up to 64 frames of it, which takes longer than all the rest. All that is wanted is the innermost function, and compiled code notes where it left the guest before it calls out
//! of it: so the thread reads that one word ([`Exit`]), and whoever leaves last finds the name ([`Functions`]).

use crate::rewrite::Plan;
use crate::slot::copy_text;
use std::os::raw::c_char;
use wasmtime::{AsContextMut, FrameInfo, Func, Module};
use wasmtime_environ::{PtrSize, VMCONTEXT_MAGIC, offsets};

/// The functions of one compiled module, by where their code lies.
#[derive(Debug)]
pub struct Functions {
    /// How the module was rewritten, which moves function indices.
    plan: Option<Plan>,
    base: usize,
    /// In ascending order of `start`.
    list: Vec<Function>,
    /// The names of `list`, one after the other.
    names: String,
}

/// A function's code is `start..end` from the base, and its name goes up to `name_end`.
#[derive(Debug)]
struct Function {
    start: u32,
    end: u32,
    index: u32,
    name_end: u32,
}

/// What is kept of a name: all that the C ABI has room for.
const NAME_BYTES: usize = 63;

impl Functions {
    /// Those of the module, which was rewritten by `plan`.
    pub fn of(module: &Module, plan: Option<Plan>) -> Self {
        let mut all: Vec<_> = module.functions().collect();
        all.sort_unstable_by_key(|function| function.offset);
        let mut names = String::new();
        let list = all
            .iter()
            .map(|function| {
                let name = function.name.as_deref().unwrap_or_default();
                names.push_str(&name[..name.floor_char_boundary(NAME_BYTES)]);
                Function {
                    start: function.offset as u32, // code and names are far below 4 GiB: Wasmtime's own tables have u32
                    end: (function.offset + function.len) as u32,
                    index: function.index.as_u32(),
                    name_end: names.len() as u32,
                }
            })
            .collect();
        names.shrink_to_fit();
        Functions {
            plan,
            base: module.text().as_ptr() as usize,
            list,
            names,
        }
    }

    /// What a function without a name is called: by its index in the module as the guest has it.
    fn unnamed(&self, index: u32) -> String {
        let plan = self.plan.as_ref();
        match plan.map_or(Some(index), |plan| plan.original_function_index(index)) {
            Some(index) => format!("function {index}"),
            None => "function of lindbridge's".into(),
        }
    }

    /// The name of the function of a frame.
    pub fn name_of(&self, frame: &FrameInfo) -> String {
        frame
            .func_name()
            .map_or_else(|| self.unnamed(frame.func_index()), str::to_owned)
    }

    /// Writes the name of the function that a call at `pc` returns to, or nothing if there is none.
    pub fn name(&self, pc: usize, to: &mut [c_char]) {
        // The call may be the last that the function has: then it returns to behind it.
        let Some(at) = pc
            .checked_sub(self.base + 1)
            .and_then(|at| u32::try_from(at).ok())
        else {
            return;
        };
        let next = self.list.partition_point(|function| function.start <= at);
        let Some(i) = next.checked_sub(1).filter(|&i| at < self.list[i].end) else {
            return;
        };
        let begin = i.checked_sub(1).map_or(0, |i| self.list[i].name_end) as usize;
        match &self.names[begin..self.list[i].name_end as usize] {
            "" => copy_text(&self.unnamed(self.list[i].index), to),
            name => copy_text(name, to),
        }
    }
}

/// Where code of one store notes how it left the guest last.
#[derive(Clone, Copy, Debug)]
pub struct Exit(*const usize);

// SAFETY: it is used with its store alone, which is on one thread at a time.
unsafe impl Send for Exit {}

impl Exit {
    /// That of no store.
    pub const NONE: Exit = Exit(std::ptr::null());

    /// That of the store, found by any function in it. None if the function is the host's.
    pub fn of(store: impl AsContextMut, function: &Func) -> Self {
        let word = size_of::<usize>() as u8;
        let function = function.to_raw(store).cast::<u8>();
        // SAFETY: `function` is a VMFuncRef of a store that is borrowed. It begins at a VMContext, if the magic number says
        // so, and that leads to the store's VMStoreContext. The offsets are those of the Wasmtime that is linked: it and
        // wasmtime-environ have one version, as Wasmtime demands.
        unsafe {
            let at = |base: *const u8, offset: u8| base.add(offset.into());
            let vmctx = *at(function, offsets::VMFuncRef(word).vmctx()).cast::<*const u8>();
            if *at(vmctx, word.vmctx_magic()).cast::<u32>() != VMCONTEXT_MAGIC {
                return Exit::NONE;
            }
            let store = *at(vmctx, word.vmctx_store_context()).cast::<*const u8>();
            Exit(at(store, offsets::VMStoreContext(word).last_wasm_exit_pc()).cast())
        }
    }

    /// Whether it is that of a store.
    pub fn is_known(self) -> bool {
        !self.0.is_null()
    }

    /// Where a call from the guest's code that has not returned will return to. 0: not known.
    ///
    /// # Safety
    ///
    /// The store that this is of exists, and the caller runs on its thread.
    pub unsafe fn pc(self) -> usize {
        // SAFETY: the caller vouches for the store.
        unsafe { self.0.as_ref() }.copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;
    use wasmtime::{Caller, Engine, Instance, Store, WasmBacktrace};

    /// What a host function saw: ours, and the innermost of Wasmtime's backtrace.
    type Seen = Vec<(String, String)>;

    struct State {
        exit: Exit,
        functions: Functions,
        seen: Seen,
    }

    fn look(mut caller: Caller<'_, State>) {
        let trace = WasmBacktrace::force_capture(&caller);
        let frame = trace.frames().first().expect("a guest's frame");
        let mut theirs = caller.data().functions.name_of(frame);
        theirs.truncate(theirs.floor_char_boundary(NAME_BYTES));
        let mut text: [c_char; 64] = [1; 64];
        let state = caller.data_mut();
        // SAFETY: the store is the caller's.
        let pc = unsafe { state.exit.pc() };
        state.functions.name(pc, &mut text);
        // SAFETY: `name` has written a NUL, or the assertion below fails.
        assert!(text.contains(&0), "no name for {pc:#x}");
        let ours = unsafe { CStr::from_ptr(text.as_ptr()) };
        let ours = ours.to_str().expect("UTF-8").to_owned();
        state.seen.push((ours, theirs));
    }

    fn run(wat: &str) -> Seen {
        let engine = Engine::default();
        let module = Module::new(&engine, wat).expect("a module");
        let functions = Functions::of(&module, None);
        let state = State {
            exit: Exit::NONE,
            functions,
            seen: Vec::new(),
        };
        let mut store = Store::new(&engine, state);
        let look = Func::wrap(&mut store, look);
        let instance = Instance::new(&mut store, &module, &[look.into()]).expect("an instance");
        let start = instance.get_func(&mut store, "_start").expect("an export");
        store.data_mut().exit = Exit::of(&mut store, &start);
        start.call(&mut store, &[], &mut []).expect("it returns");
        std::mem::take(&mut store.data_mut().seen)
    }

    #[test]
    fn names_what_the_backtrace_names() {
        let long = "é".repeat(40);
        let seen = run(&format!(
            r#"(module
                (import "" "look" (func $look))
                (func (export "unnamed") call $look)
                (func $leaf (param i32) call $look)
                (func $"{long}" call $look (call $leaf (i32.const 1)))
                (func call $look call $"{long}" call $look)
                (func $deep (param i32)
                    (if (local.get 0)
                        (then (call $deep (i32.sub (local.get 0) (i32.const 1))))
                        (else call 4)))
                (func $main (export "_start") call $look (call $deep (i32.const 50)) call $look))"#
        ));
        let ours: Vec<_> = seen.iter().map(|(ours, _)| ours.as_str()).collect();
        let cut = "é".repeat(31);
        assert_eq!(
            ours,
            ["main", "function 4", &cut, "leaf", "function 4", "main"]
        );
        for (ours, theirs) in &seen {
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn of_functions_that_end_in_a_call() {
        // What follows the call is never reached, so that it returns to behind the function's code.
        let seen = run(r#"(module
            (import "" "look" (func $look))
            (func $one call $look)
            (func $two call $one call $look)
            (func $main (export "_start") call $two))"#);
        for (ours, theirs) in &seen {
            assert_eq!(ours, theirs);
        }
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn is_silent_where_there_is_no_function() {
        let module = Module::new(&Engine::default(), r#"(module (func $f))"#).expect("a module");
        let functions = Functions::of(&module, None);
        let text = module.text().as_ptr_range();
        for pc in [
            0,
            1,
            text.start as usize,
            text.end as usize + 1,
            text.end as usize + (1 << 33),
            usize::MAX,
        ] {
            let mut to: [c_char; 64] = [0; 64];
            functions.name(pc, &mut to);
            assert_eq!(to[0], 0, "{pc:#x}");
        }
    }

    #[test]
    fn no_exit_is_found_by_a_function_of_the_host() {
        let mut store = Store::new(&Engine::default(), ());
        let host = Func::wrap(&mut store, || ());
        let exit = Exit::of(&mut store, &host);
        // SAFETY: it is no store's.
        assert_eq!(unsafe { exit.pc() }, 0);
    }
}
