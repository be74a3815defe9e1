//! Programs and grates for tests, and the host's side of `lind.make-syscall`.

use super::*;
use lindshim::faults::BUILT;
use std::sync::atomic::AtomicU64;

/// The id of the import `lind.make-syscall`.
pub const SYSCALL: u32 = 100;
/// The id of the import `host.spawn`.
const SPAWN: u32 = 101;

// Calls that are never interposed: the host's own. Others are native calls that answer 1000 more than their number.
pub const REPORT: u64 = 2000;
pub const MARK: u64 = 2001;
pub const WAIT: u64 = 2002;
pub const BLOCK: u64 = 2003;
pub const STOP_SELF: u64 = 2004;
pub const STOP_CALLER: u64 = 2005;
pub const QUIT: u64 = 2006;
pub const FAIL: u64 = 2007;
pub const INFO: u64 = 2008;
pub const NESTED: u64 = 2009;

/// What a host call of a worker was told of its caller, and of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    pub user: u64,
    pub caller_user: u64,
    pub caller_thread_user: u64,
    pub depth: u32,
    pub worker: u32,
}

pub static INFOS: Mutex<Vec<Info>> = Mutex::new(Vec::new());
static THREAD_USERS: AtomicU64 = AtomicU64::new(1);

/// Blocks within the call, until the domain stops or one that the worker serves does. `None`: there are no descriptors for
/// it, as there are not if a fault has seen to that.
unsafe fn block(call: &Call) -> Option<i32> {
    unsafe {
        let (mut cancel, mut interrupt, null) = (-1, -1, std::ptr::null_mut());
        for status in [
            lindshim_domain_cancel_fd(call.domain, &mut cancel, null),
            lindshim_interrupt_fd(&mut interrupt, null),
        ] {
            assert!(status == LINDSHIM_OK || BUILT && status == LINDSHIM_ERR_IO);
            if status != LINDSHIM_OK {
                return None;
            }
        }
        if *call.args.add(2 * 4) == 0 && call.resumed == LINDSHIM_RESUMED_NOT {
            mark(call.user);
        }
        let mut fds = [cancel, interrupt].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        while libc::poll(fds.as_mut_ptr(), 2, -1) < 1 {}
        if fds[1].revents != 0 {
            let mut times = 0_u64;
            libc::read(interrupt, (&raw mut times).cast(), 8);
        }
        Some(-libc::EINTR)
    }
}

unsafe extern "C" fn host_call(call: *mut Call) -> i32 {
    unsafe {
        let call = &mut *call;
        if call.thread_user == 0 {
            call.thread_user = THREAD_USERS.fetch_add(1, Ordering::SeqCst);
        }
        if call.import == SPAWN {
            let mut tid = 0;
            let arg = *call.args as u32;
            let status = lindshim_thread_spawn(call.domain, arg, &mut tid, std::ptr::null_mut());
            *call.args = if status == LINDSHIM_OK { tid.into() } else { 0 };
            return LINDSHIM_CONTINUE;
        }
        assert_eq!(call.import, SYSCALL);
        let number = *call.args & 0xffff_ffff;
        let arg = |i: usize| *call.args.add(2 * (4 + 2 * i));
        let mut result = 0_i32;
        match number {
            REPORT => change(|seen| {
                let value = arg(0) as i64;
                seen.values.entry(call.user).or_default().push(value);
            }),
            MARK => mark(call.user),
            WAIT => {
                match call.resumed {
                    LINDSHIM_RESUMED_NOT => {
                        if arg(0) == 0 {
                            mark(call.user);
                        }
                        call.wait_count = 0;
                        call.timeout_ns = -1;
                        return LINDSHIM_WAIT;
                    }
                    LINDSHIM_RESUMED_INTERRUPTED => result = -libc::EINTR,
                    LINDSHIM_RESUMED_REFUSED if BUILT => match block(call) {
                        Some(answer) => result = answer,
                        None => return LINDSHIM_TRAP,
                    },
                    LINDSHIM_RESUMED_READY => {
                        // Nothing that it waits for, so it waits on.
                        call.wait_count = 0;
                        call.timeout_ns = -1;
                        return LINDSHIM_WAIT;
                    }
                    other => panic!("resumed {other}"),
                }
            }
            BLOCK => match block(call) {
                Some(answer) => result = answer,
                None => return LINDSHIM_TRAP,
            },
            STOP_SELF => {
                lindshim_domain_stop(call.domain, std::ptr::null_mut());
            }
            STOP_CALLER => {
                let domain = seen().domains[&call.caller_user];
                lindshim_domain_stop(domain, std::ptr::null_mut());
            }
            QUIT => return LINDSHIM_QUIT,
            FAIL => return LINDSHIM_TRAP,
            INFO => INFOS.lock().unwrap().push(Info {
                user: call.user,
                caller_user: call.caller_user,
                caller_thread_user: call.caller_thread_user,
                depth: call.depth,
                worker: call.worker,
            }),
            NESTED => {
                let (_, answer) = grate_call(arg(0), arg(1), arg(2), [0; 6]);
                result = answer;
            }
            number => result = 1000 + number as i32,
        }
        *call.args = u64::from(result as u32);
        LINDSHIM_CONTINUE
    }
}

/// `lindshim_grate_call` with arguments that all belong to `cage`.
pub fn grate_call(entry: u64, cage: u64, call: u64, args: [u64; 6]) -> (i32, i32) {
    let mut words = [0; 12];
    for (i, arg) in args.into_iter().enumerate() {
        (words[2 * i], words[2 * i + 1]) = (arg, cage);
    }
    let mut result = 0;
    let null = std::ptr::null_mut();
    let status =
        unsafe { lindshim_grate_call(entry, cage, call, words.as_ptr(), &mut result, null) };
    (status, result)
}

/// An engine whose guests have `lind.make-syscall`.
pub fn grate_host(change: impl FnOnce(&mut EngineConfig)) -> Host {
    let imports = [
        Import::new("lind", "make-syscall", "iIIIIIIIIIIIIIII", "i", SYSCALL),
        Import::new("host", "spawn", "i", "i", SPAWN),
    ];
    Host::new(host_call, &imports, change)
}

/// The handlers of one cage.
#[derive(Clone, Copy)]
pub struct Row(&'static [AtomicU64]);

impl Row {
    pub fn new() -> Self {
        // As the host's own: never unmapped. The first word is the directory's, the row begins at a cache line.
        let words: Vec<_> = (0..16 + 2 * 1024).map(|_| AtomicU64::new(0)).collect();
        let words: &'static [AtomicU64] = words.leak();
        words[0].store(words[1..].as_ptr() as u64, Ordering::SeqCst);
        Row(words)
    }

    pub fn word(self) -> *const u64 {
        self.0[0].as_ptr()
    }

    pub fn set(self, call: usize, entry: u64) {
        self.0[1 + 8 + call].store(entry, Ordering::SeqCst);
    }
}

/// The entry of a function of the grate with this port.
pub fn entry(port: u64, function: u64) -> u64 {
    1 << 62 | port << 24 | function
}

pub const GONE: u64 = 3 << 62;

const SHARED: &str = r#"(memory (export "memory") (import "env" "memory") 2 200 shared)"#;

/// The program with a memory of its own, and more data for it than is copied.
pub fn with_much_data(program: &str) -> String {
    assert!(program.contains(SHARED));
    let data = "x".repeat(100_000);
    let memory = format!(r#"(memory (export "memory") 4) (data (i32.const 65536) "{data}")"#);
    let rest = program.replace(SHARED, "");
    format!("{}{memory})", rest.strip_suffix(')').unwrap())
}

/// What programs and grates have in common. `$sys` makes a call with three arguments, which are the cage's own.
fn prelude(cage: u64, memory: &str) -> String {
    format!(
        r#"{memory}
          (import "host" "spawn" (func $spawn (param i32) (result i32)))
          (import "lind" "make-syscall" (func $make (param i32 i64 i64 i64
            i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))
          (func $sys (param $n i32) (param $a i64) (param $b i64) (param $c i64) (result i32)
            (call $make (local.get $n) (i64.const 0) (i64.const {cage}) (i64.const {cage})
              (local.get $a) (i64.const {cage}) (local.get $b) (i64.const {cage}) (local.get $c) (i64.const {cage})
              (i64.const 0) (i64.const {cage}) (i64.const 0) (i64.const {cage}) (i64.const 0) (i64.const {cage})))
          (func $call (param $n i32) (result i32)
            (call $sys (local.get $n) (i64.const 0) (i64.const 0) (i64.const 0)))
          (func $do (param $n i32) (drop (call $call (local.get $n))))
          (func $report (param $value i32)
            (drop (call $sys (i32.const {REPORT}) (i64.extend_i32_s (local.get $value)) (i64.const 0) (i64.const 0))))
          (func $spin (loop $l br $l))"#
    )
}

/// A program: its cage, what its threads do (the argument is local 1), and what its main thread does.
pub fn program(cage: u64, thread: &str, main: &str) -> String {
    let prelude = prelude(cage, SHARED);
    format!(
        r#"(module {prelude}
          (func (export "wasi_thread_start") (param i32 i32) {thread})
          (func (export "_start") (local $i i32) {main}))"#
    )
}

/// A grate. Its functions are in its table from 1 on; each is a body with the parameters $cage, $a0, $c0 .. $a5, $c5.
pub fn grate(cage: u64, functions: &[&str]) -> String {
    grate_with(cage, functions, SHARED, "")
}

pub fn grate_with(cage: u64, functions: &[&str], memory: &str, more: &str) -> String {
    let prelude = prelude(cage, memory);
    let params: String = (0..6)
        .map(|i| format!("(param $a{i} i64) (param $c{i} i64)"))
        .collect();
    let (mut bodies, mut names) = (String::new(), String::new());
    for (i, body) in functions.iter().enumerate() {
        bodies += &format!(
            "(func $f{i} (type $handler) (param $cage i64) {params} (result i32) {body})\n"
        );
        names += &format!(" $f{i}");
    }
    let args: String = (1..14).map(|i| format!(" (local.get {i})")).collect();
    let entry_params = "i64 ".repeat(14);
    let handler_params = "i64 ".repeat(13);
    let size = functions.len() + 3;
    format!(
        r#"(module
          (type $handler (func (param {handler_params}) (result i32)))
          {prelude}
          (table (export "__indirect_function_table") {size} funcref)
          (global $sp (export "__stack_pointer") (mut i32) (i32.const 65536))
          (elem (i32.const 1){names} $spin)
          {bodies}
          {more}
          (func (export "pass_fptr_to_wt") (param {entry_params}) (result i32)
            (call_indirect (type $handler){args} (i32.wrap_i64 (local.get 0))))
          (func (export "_start") (drop (call $sys (i32.const {WAIT}) (i64.const 1) (i64.const 0) (i64.const 0)))))"#
    )
}

/// A cage: its domain, user word, handlers, and its port if it is a grate.
#[derive(Clone, Copy)]
pub struct Cage {
    pub domain: u64,
    pub user: u64,
    pub row: Row,
    pub port: u64,
}

impl Host {
    /// A domain with this number, a row, and no thread yet.
    pub fn cage(&self, module: u64, number: u64, change: impl FnOnce(&mut DomainConfig)) -> Cage {
        let row = Row::new();
        let made = self.try_domain(module, |config| {
            config.handlers = row.word();
            config.cage = number;
            change(config);
        });
        let (domain, user) = made.unwrap();
        Cage {
            domain,
            user,
            row,
            port: 0,
        }
    }

    /// A grate with this number.
    pub fn grate(&self, module: u64, number: u64, change: impl FnOnce(&mut GrateConfig)) -> Cage {
        let mut cage = self.cage(module, number, |_| {});
        cage.port = self.try_open(cage.domain, change).unwrap();
        cage
    }

    pub fn try_open(
        &self,
        domain: u64,
        change: impl FnOnce(&mut GrateConfig),
    ) -> Result<u64, (i32, String)> {
        let mut config = GrateConfig::new();
        change(&mut config);
        let (mut port, mut err) = (0, no_error());
        match unsafe { lindshim_grate_open(domain, &config, &mut port, &mut err) } {
            LINDSHIM_OK => Ok(port),
            status => Err((status, message(&err))),
        }
    }
}

/// The values that the program has reported, when there are so many.
pub fn values(user: u64, n: usize) -> Vec<i64> {
    wait_until(|seen| {
        let values = seen.values.get(&user)?;
        (values.len() >= n).then(|| values.clone())
    })
}

/// Stops and deletes.
pub fn end(cages: &[Cage]) {
    for cage in cages {
        stop(cage.domain);
    }
    for cage in cages {
        report(cage.user);
        assert_eq!(
            unsafe { lindshim_domain_delete(cage.domain, std::ptr::null_mut()) },
            LINDSHIM_OK
        );
    }
}
