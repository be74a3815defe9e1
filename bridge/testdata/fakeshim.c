// fakeshim.c is a shim for tests: the whole C ABI of lindshim.h in plain C, with programs of a few words in place of
// WebAssembly. It lets the bridge be tested without Wasmtime, and with shims that no good shim would be.
//
// A module is text, a line each:
//
//   fake                           the first line
//   import M N / export N          what lindshim_module_import and _export say
//   memory PAGES                   a shared linear memory of 64 KiB pages
//   main: / thread:                what follows is the export "_start" / "wasi_thread_start"
//   serveN:                        what follows is what entry N of a grate's function table does
//
// and in these:
//
//   call IMPORT TIMES [ARG...]     host calls; argument words, where "arg" is what the thread was spawned with, and
//                                  "arg0" to "arg11" and "cage" are those of the call that a grate serves
//   expect WORD                    trap unless the last result was WORD
//   load OFFSET                    the 64-bit word at OFFSET of the memory becomes the last result
//   block                          wait, as in an atomic wait at address 64, until the domain stops
//   trap TEXT                      trap, with a backtrace of two frames
//   forge WORD / forge-thread WORD from here on, host calls are given this word for user / thread_user
//   fail                           as a line of its own in main or thread: the thread's start fails
//
// A module whose first line is "status N TEXT" makes lindshim_module_load answer N with that text.
//
// A grate is a module with the line "export pass_fptr_to_wt". Its workers are like threads, but run on the thread that
// calls; what a call answers is the last result. There is no lind.make-syscall here: grates are called by
// lindshim_grate_call, handlers and the grace of callers that stop are only kept, and a function that is missing answers
// EINVAL as in the real one.
//
// Compiled with these, it is a shim that does not fit:
//
//   FAKE_VERSION=N    its ABI version
//   FAKE_OMIT_SPAWN   without lindshim_thread_spawn and lindshim_domain_stop
//   FAKE_BARE         without any function
//   FAKE_WRONG_SIZES  with two structures of another size
//   FAKE_NO_CALLS     each function but the version's and the sizes' aborts the process

#define _GNU_SOURCE
#include "lindshim.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef FAKE_VERSION
#define FAKE_VERSION LINDSHIM_ABI_VERSION
#endif
#ifdef FAKE_NO_CALLS
#define ENTER() abort()
#else
#define ENTER() ((void)0)
#endif

#ifdef FAKE_BARE
int fake_is_no_shim;
#else

enum kind { FREE, ENGINE, MODULE, DOMAIN };

struct engine {
  lindshim_engine_config_t config;
  uint64_t running, domains, modules;
  int loaded;
  uint64_t uses; // its handle and its modules
};

struct module {
  struct engine *engine;
  char *text;
  int uses;
};

struct thread {
  struct domain *domain;
  struct thread *next;
  pthread_t os;
  uint32_t arg;
  uint64_t thread_user;
  int inside, listed; // in the gate / in the report
  int idle;           // a worker without a call
  int begun;          // for the host to run, which has not
  lindshim_thread_t state;
  lindshim_thread_t stopped; // state when the domain began to stop
};

struct domain {
  uint64_t handle;
  struct module *module;
  lindshim_domain_config_t config;
  struct thread *threads;
  uint32_t tids, workers, inside; // how many threads and workers there ever were, and who is in the gate
  atomic_int closed;
  int started, quiescent, fd;
  uint64_t stop_ns;
  uint8_t *memory;
  uint64_t memory_bytes;
  pthread_cond_t stop;
  lindshim_grate_config_t grate;
  uint64_t port; // 0 if it is no grate
  uint32_t serving;
  pthread_cond_t served;
};

// frame is a host call in flight, on the stack of its OS thread.
struct frame {
  struct thread *t;
  lindshim_call_t *call;
  struct frame *outer; // whom the worker serves that makes it
  struct frame *next;  // in callers
  int *interrupt;      // of its OS thread
  uint32_t depth;
  int stopped;         // its domain has stopped since it called a grate
};

// os is what belongs to the OS thread: the innermost host call, and the descriptor that interrupts it, or -1.
static _Thread_local struct { struct frame *frame; int interrupt; } os = {NULL, -1};

// mu guards all that follows and all of the above, save closed and what an OS thread has of its own.
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;

enum { HANDLES = 1 << 16, THREADS = 1 << 14, WORKER_TIDS = 1 << 20 };
static struct { enum kind kind; uint32_t generation; void *object; } handles[HANDLES];
static struct { pthread_t os; struct engine *engine; } ended[THREADS]; // to be joined
static int ended_count;
static pthread_cond_t thread_ended = PTHREAD_COND_INITIALIZER;
static struct frame *callers; // that are inside a grate
static uint64_t ports;        // given out so far

static uint64_t now(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int32_t fail(lindshim_error_t *err, int32_t status, const char *text) {
  if (err) {
    size_t len = strlen(text);
    err->len = (uint32_t)(len < sizeof err->text ? len : sizeof err->text);
    memcpy(err->text, text, err->len);
  }
  return status;
}

static uint64_t handle_new(enum kind kind, void *object) {
  for (uint32_t i = 0; i < HANDLES; i++) {
    if (handles[i].kind == FREE) {
      handles[i].kind = kind;
      handles[i].object = object;
      return (uint64_t)++handles[i].generation << 32 | i;
    }
  }
  abort();
}

static void *handle_get(enum kind kind, uint64_t handle) {
  uint32_t i = (uint32_t)handle;
  if (i >= HANDLES || handles[i].kind != kind || handles[i].generation != handle >> 32) return NULL;
  return handles[i].object;
}

// join_ended joins the OS threads of an engine (of all if NULL) that have ended.
static void join_ended(const struct engine *engine) {
  pthread_t list[64];
  for (;;) {
    int n = 0;
    pthread_mutex_lock(&mu);
    for (int i = 0; i < ended_count && n < 64;) {
      if (engine && ended[i].engine != engine) { i++; continue; }
      list[n++] = ended[i].os;
      ended[i] = ended[--ended_count];
    }
    pthread_mutex_unlock(&mu);
    if (n == 0) return;
    for (int i = 0; i < n; i++) pthread_join(list[i], NULL);
  }
}

static void engine_release(struct engine *e) {
  if (--e->uses == 0) free(e);
}

static void module_release(struct module *m) {
  if (--m->uses == 0) {
    memset(m->text, '#', strlen(m->text)); // who reads freed text sees that it is wrong
    engine_release(m->engine);
    free(m->text);
    free(m);
  }
}

// line answers the next line's start within text, and NULL at the end.
static const char *line(const char *text) {
  const char *end = strchr(text, '\n');
  return end && end[1] ? end + 1 : NULL;
}

static int starts(const char *text, const char *word) { return strncmp(text, word, strlen(word)) == 0; }

// section answers what follows the line "name:", or NULL if there is no such line.
static const char *section(const char *text, const char *name) {
  for (; text; text = line(text))
    if (starts(text, name) && text[strlen(name)] == ':') return strchr(text, '\n') + 1;
  return NULL;
}

// is_label says whether a section begins at the line.
static int is_label(const char *text) { return text[strcspn(text, " :\n")] == ':'; }

static void set_state(struct thread *t, uint32_t state, uint32_t import, uint64_t address) {
  t->state.state = state;
  t->state.import = import;
  t->state.address = address;
  t->state.since_ns = state == LINDSHIM_AT_GUEST ? 0 : now();
}

// leave takes a thread out of the gate; if it was the last, it reports.
static void leave(struct thread *t, uint32_t outcome) {
  struct domain *d = t->domain;
  lindshim_report_t report = {0};
  lindshim_thread_t *list = NULL;
  pthread_mutex_lock(&mu);
  t->inside = 0;
  t->idle = t->state.worker && outcome == LINDSHIM_END_RETURNED;
  t->stopped.outcome = t->idle ? LINDSHIM_END_STOPPED : outcome; // an idle worker ends with its domain
  t->stopped.left_ns = now();
  strcpy(t->stopped.function, "work");
  if (t->state.worker) {
    d->serving--;
    pthread_cond_broadcast(&d->served);
  }
  d->inside--;
  int last = d->inside == 0 && d->closed && !d->quiescent;
  struct engine *engine = d->module->engine;
  if (last) {
    d->quiescent = 1;
    list = calloc(d->tids + d->workers + 1, sizeof *list);
    for (struct thread *o = d->threads; o; o = o->next)
      if (o->listed) list[report.thread_count++] = o->stopped;
    report.user = d->config.user;
    report.domain = d->handle;
    report.stop_ns = d->stop_ns;
    report.quiescent_ns = now();
    report.threads = list;
    report.threads_total = d->tids + d->workers;
  }
  pthread_mutex_unlock(&mu);
  // From here on d and t may be gone: whoever hears of the report may delete the domain.
  if (last) engine->config.quiescent(&report);
  free(list);
}

static void close_interrupt(void) {
  pthread_mutex_lock(&mu);
  if (os.interrupt >= 0) close(os.interrupt);
  os.interrupt = -1;
  pthread_mutex_unlock(&mu);
}

// value is what an argument of "call" stands for. served are the words of the call that a worker serves.
static unsigned long long value(const struct thread *t, const char *text, const uint64_t *served) {
  unsigned i;
  if (strcmp(text, "arg") == 0) return t->arg;
  if (served && strcmp(text, "cage") == 0) return served[12];
  if (served && sscanf(text, "arg%u", &i) == 1 && i < 12) return served[i];
  return strtoull(text, NULL, 0);
}

// execute runs a thread, or a worker that serves outer, from code on and answers why it ended.
static uint32_t execute(struct thread *t, const char *code, struct frame *outer, const uint64_t *served, uint64_t *last,
                        char message[256]) {
  struct domain *d = t->domain;
  struct engine *engine = d->module->engine;
  uint64_t args[2 * 16] = {0}, user = d->config.user;
  uint32_t outcome = LINDSHIM_END_RETURNED;
  for (; code && outcome == LINDSHIM_END_RETURNED; code = line(code)) {
    if (is_label(code)) break;
    char text[256];
    unsigned long long word[16];
    if (d->closed) {
      outcome = LINDSHIM_END_STOPPED;
    } else if (starts(code, "call ")) {
      int n = 0;
      sscanf(code, "%255[^\n]", text);
      char *rest, *w = strtok_r(text, " ", &rest);
      while (n < 16 && (w = strtok_r(NULL, " ", &rest))) word[n++] = value(t, w, served);
      pthread_mutex_lock(&mu);
      set_state(t, LINDSHIM_AT_HOST_CALL, (uint32_t)word[0], 0);
      pthread_mutex_unlock(&mu);
      for (unsigned long long i = 0; i < word[1] && outcome == LINDSHIM_END_RETURNED; i++) {
        for (int a = 2; a < n; a++) args[2 * (a - 2)] = word[a];
        lindshim_wait_fd_t wait[LINDSHIM_MAX_WAIT];
        lindshim_call_t call = {.user = user,
                                .thread_user = t->thread_user,
                                .domain = d->handle,
                                .tid = t->state.tid,
                                .import = (uint32_t)word[0],
                                .args = args,
                                .memory = d->memory,
                                .memory_bytes = d->memory_bytes,
                                .wait = wait,
                                .caller_user = outer ? outer->t->domain->config.user : 0,
                                .caller_thread_user = outer ? outer->call->thread_user : 0,
                                .depth = t->state.worker + (outer ? outer->depth : 0),
                                .worker = t->state.worker};
        struct frame *before = os.frame;
        struct frame frame = {.t = t, .call = &call, .outer = outer, .interrupt = &os.interrupt, .depth = call.depth};
        os.frame = &frame;
        int32_t verdict = engine->config.host_call(&call);
        while (verdict == LINDSHIM_WAIT) { // this shim waits for time alone
          int timed = call.timeout_ns >= 0;
          if (timed) usleep((useconds_t)(call.timeout_ns / 1000));
          call.resumed = timed ? LINDSHIM_RESUMED_TIMED_OUT : LINDSHIM_RESUMED_REFUSED;
          verdict = engine->config.host_call(&call);
        }
        os.frame = before;
        t->thread_user = call.thread_user;
        *last = args[0];
        if (verdict == LINDSHIM_QUIT) outcome = LINDSHIM_END_QUIT;
        if (verdict == LINDSHIM_TRAP) {
          outcome = LINDSHIM_END_TRAPPED;
          strcpy(message, "host call failed");
        }
        int closed = atomic_load_explicit(&d->closed, memory_order_relaxed);
        if (outcome == LINDSHIM_END_RETURNED && closed) outcome = LINDSHIM_END_STOPPED;
      }
      pthread_mutex_lock(&mu);
      set_state(t, LINDSHIM_AT_GUEST, 0, 0);
      pthread_mutex_unlock(&mu);
    } else if (sscanf(code, "expect %lli", (long long *)word) == 1) {
      if (*last != word[0]) {
        outcome = LINDSHIM_END_TRAPPED;
        snprintf(message, 256, "got %llu, expected %llu", (unsigned long long)*last, word[0]);
      }
    } else if (sscanf(code, "load %lli", (long long *)word) == 1) {
      memcpy(last, d->memory + word[0], sizeof *last);
    } else if (sscanf(code, "forge-thread %lli", (long long *)word) == 1) {
      t->thread_user = word[0];
    } else if (sscanf(code, "forge %lli", (long long *)word) == 1) {
      user = word[0];
    } else if (starts(code, "block")) {
      pthread_mutex_lock(&mu);
      set_state(t, LINDSHIM_AT_ATOMIC_WAIT, 0, 64);
      while (!d->closed) pthread_cond_wait(&d->stop, &mu);
      pthread_mutex_unlock(&mu);
      outcome = LINDSHIM_END_STOPPED;
    } else if (sscanf(code, "trap %255[^\n]", message) == 1) {
      outcome = LINDSHIM_END_TRAPPED;
    }
  }
  return outcome;
}

// finish tells of a thread's end, or of a worker that is of no further use, and takes it out of the gate.
static void finish(struct thread *t, uint32_t outcome, char message[256]) {
  struct domain *d = t->domain;
  char backtrace[] = "inner\nouter";
  lindshim_thread_end_t end = {0};
  end.user = d->config.user;
  end.thread_user = t->thread_user;
  end.domain = d->handle;
  end.tid = t->state.tid;
  end.outcome = outcome;
  end.main = t->state.tid == 1;
  end.worker = t->state.worker;
  if (message[0]) {
    end.message = message;
    end.message_bytes = strlen(message);
  }
  if (outcome == LINDSHIM_END_TRAPPED) {
    end.trap = 9;
    end.backtrace = backtrace;
    end.backtrace_bytes = strlen(backtrace);
  }
  if (outcome == LINDSHIM_END_STOPPED || (t->state.worker && outcome == LINDSHIM_END_RETURNED))
    t->stopped.thread_user = t->thread_user; // the report tells of it
  else
    d->module->engine->config.thread_end(&end);
  memset(message, '#', 256); // what was not copied is gone
  memset(backtrace, '#', sizeof backtrace);
  leave(t, outcome);
}

// body is all that a thread does, on whatever OS thread.
static void body(struct thread *t) {
  struct domain *d = t->domain;
  char message[256] = "";
  uint64_t last = 0;
  uint32_t outcome;
  const char *code = section(d->module->text, t->state.tid == 1 ? "main" : "thread");

  if (code && starts(code, "fail")) {
    outcome = LINDSHIM_END_START_FAILED;
    strcpy(message, "the start failed");
  } else {
    pthread_mutex_lock(&mu);
    set_state(t, LINDSHIM_AT_GUEST, 0, 0);
    pthread_mutex_unlock(&mu);
    outcome = execute(t, code, NULL, NULL, &last, message);
  }
  close_interrupt();
  finish(t, outcome, message);
}

static void *run(void *p) {
  struct thread *t = p;
  struct engine *engine = t->domain->module->engine;
  body(t);

  pthread_mutex_lock(&mu);
  if (ended_count == THREADS) abort();
  ended[ended_count].os = pthread_self();
  ended[ended_count++].engine = engine;
  engine->running--;
  pthread_cond_broadcast(&thread_ended);
  pthread_mutex_unlock(&mu);
  return NULL;
}

// begin makes a thread and, unless the host is to run it, starts it; mu is held.
static int32_t begin(struct domain *d, uint32_t arg, int here, uint32_t *tid, lindshim_error_t *err) {
  struct engine *engine = d->module->engine;
  uint64_t limit = engine->config.max_threads ? engine->config.max_threads : 4096;
  if (d->closed) return fail(err, LINDSHIM_ERR_CLOSED, "the domain is stopping");
  if (d->config.max_threads && d->inside >= d->config.max_threads)
    return fail(err, LINDSHIM_ERR_LIMIT, "the domain's thread limit");
  if (engine->running >= limit) return fail(err, LINDSHIM_ERR_LIMIT, "the engine's thread limit");
  struct thread *t = calloc(1, sizeof *t);
  t->domain = d;
  t->arg = arg;
  t->inside = 1;
  t->state.tid = ++d->tids;
  set_state(t, LINDSHIM_AT_STARTING, 0, 0);
  t->next = d->threads;
  d->threads = t;
  d->inside++;
  engine->running++;
  t->begun = here;
  *tid = t->state.tid;
  if (here) return LINDSHIM_OK;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 256 << 10);
  int failed = pthread_create(&t->os, &attr, run, t);
  pthread_attr_destroy(&attr);
  if (failed) abort();
  return LINDSHIM_OK;
}

uint32_t lindshim_abi_version(void) { return FAKE_VERSION; }

uint64_t lindshim_struct_size(uint32_t which) {
  switch (which) {
#ifdef FAKE_WRONG_SIZES
  case LINDSHIM_STRUCT_CALL: return sizeof(lindshim_call_t) + 8;
  case LINDSHIM_STRUCT_REPORT: return 0;
#else
  case LINDSHIM_STRUCT_CALL: return sizeof(lindshim_call_t);
  case LINDSHIM_STRUCT_REPORT: return sizeof(lindshim_report_t);
#endif
  case LINDSHIM_STRUCT_ERROR: return sizeof(lindshim_error_t);
  case LINDSHIM_STRUCT_THREAD_END: return sizeof(lindshim_thread_end_t);
  case LINDSHIM_STRUCT_THREAD: return sizeof(lindshim_thread_t);
  case LINDSHIM_STRUCT_ENGINE_CONFIG: return sizeof(lindshim_engine_config_t);
  case LINDSHIM_STRUCT_IMPORT: return sizeof(lindshim_import_t);
  case LINDSHIM_STRUCT_DOMAIN_CONFIG: return sizeof(lindshim_domain_config_t);
  case LINDSHIM_STRUCT_MODULE_INFO: return sizeof(lindshim_module_info_t);
  case LINDSHIM_STRUCT_EXTERN: return sizeof(lindshim_extern_t);
  case LINDSHIM_STRUCT_ENGINE_STATS: return sizeof(lindshim_engine_stats_t);
  case LINDSHIM_STRUCT_GRATE_CONFIG: return sizeof(lindshim_grate_config_t);
  case LINDSHIM_STRUCT_TRACE: return sizeof(lindshim_trace_t);
  case LINDSHIM_STRUCT_CALLER: return sizeof(lindshim_caller_t);
  case LINDSHIM_STRUCT_FAULT: return sizeof(lindshim_fault_t);
  }
  return 0;
}

const char *lindshim_version(void) {
  ENTER();
  return "fakeshim 0.0.0 (no runtime)";
}

int32_t lindshim_engine_new(const lindshim_engine_config_t *config, uint64_t *engine, lindshim_error_t *err) {
  ENTER();
  if (config->struct_size != sizeof *config || config->abi_version != LINDSHIM_ABI_VERSION)
    return fail(err, LINDSHIM_ERR_ABI, "another ABI");
  if (!config->host_call || !config->thread_end || !config->quiescent)
    return fail(err, LINDSHIM_ERR_INVALID, "no callbacks");
  if (config->cache_dir && config->cache_dir[0] != '/') {
    char text[256];
    snprintf(text, sizeof text, "cache directory %.*s is not absolute", (int)config->cache_dir_bytes,
             config->cache_dir);
    return fail(err, LINDSHIM_ERR_INVALID, text);
  }
  struct engine *e = calloc(1, sizeof *e);
  e->config = *config;
  e->uses = 1;
  pthread_mutex_lock(&mu);
  *engine = handle_new(ENGINE, e);
  pthread_mutex_unlock(&mu);
  return LINDSHIM_OK;
}

int32_t lindshim_engine_define(uint64_t engine, const lindshim_import_t *imports, uint64_t n, lindshim_error_t *err) {
  ENTER();
  int32_t status = LINDSHIM_OK;
  pthread_mutex_lock(&mu);
  struct engine *e = handle_get(ENGINE, engine);
  if (!e) status = fail(err, LINDSHIM_ERR_HANDLE, "no such engine");
  else if (e->loaded) status = fail(err, LINDSHIM_ERR_BUSY, "a module was loaded");
  for (uint64_t i = 0; i < n && status == LINDSHIM_OK; i++) {
    char text[256];
    if (imports[i].results_bytes <= 1 && imports[i].name_bytes) continue;
    snprintf(text, sizeof text, "%.*s.%.*s has type (%.*s) -> (%.*s)", (int)imports[i].module_bytes, imports[i].module,
             (int)imports[i].name_bytes, imports[i].name, (int)imports[i].params_bytes, imports[i].params,
             (int)imports[i].results_bytes, imports[i].results);
    status = fail(err, LINDSHIM_ERR_INVALID, text);
  }
  pthread_mutex_unlock(&mu);
  return status;
}

int32_t lindshim_engine_stats(uint64_t engine, lindshim_engine_stats_t *out, lindshim_error_t *err) {
  ENTER();
  pthread_mutex_lock(&mu);
  struct engine *e = handle_get(ENGINE, engine);
  if (e) *out = (lindshim_engine_stats_t){e->running, 0, e->domains, e->modules};
  pthread_mutex_unlock(&mu);
  return e ? LINDSHIM_OK : fail(err, LINDSHIM_ERR_HANDLE, "no such engine");
}

int32_t lindshim_engine_delete(uint64_t engine, lindshim_error_t *err) {
  ENTER();
  if (engine == 0) return LINDSHIM_OK;
  pthread_mutex_lock(&mu);
  struct engine *e = handle_get(ENGINE, engine);
  int32_t status = LINDSHIM_OK;
  if (!e) status = fail(err, LINDSHIM_ERR_HANDLE, "no such engine");
  else if (e->domains) status = fail(err, LINDSHIM_ERR_BUSY, "domains live");
  if (status == LINDSHIM_OK) handles[(uint32_t)engine].kind = FREE;
  pthread_mutex_unlock(&mu);
  if (status != LINDSHIM_OK) return status;
  pthread_mutex_lock(&mu);
  while (e->running > 0) pthread_cond_wait(&thread_ended, &mu);
  pthread_mutex_unlock(&mu);
  join_ended(e);
  pthread_mutex_lock(&mu);
  engine_release(e);
  pthread_mutex_unlock(&mu);
  return LINDSHIM_OK;
}

static uint64_t count(const char *text, const char *word) {
  uint64_t n = 0;
  for (; text; text = line(text)) n += starts(text, word);
  return n;
}

static int is_grate(const char *text) { return count(text, "export pass_fptr_to_wt\n") > 0; }

static int32_t module_load(uint64_t engine, const uint8_t *bytes, uint64_t len, int grate, uint64_t *module,
                           lindshim_error_t *err) {
  char *text = calloc(1, len + 1);
  if (len) memcpy(text, bytes, len);
  int32_t status = LINDSHIM_OK;
  int code = 0, at = 0;
  pthread_mutex_lock(&mu);
  struct engine *e = handle_get(ENGINE, engine);
  if (!e) status = fail(err, LINDSHIM_ERR_HANDLE, "no such engine");
  else if (sscanf(text, "status %d %n", &code, &at) == 1) status = fail(err, code, text + at);
  else if (!starts(text, "fake\n")) status = fail(err, LINDSHIM_ERR_MODULE, "not a fake module");
  else if (grate && !is_grate(text)) status = fail(err, LINDSHIM_ERR_EXPORT, "no pass_fptr_to_wt");
  if (status == LINDSHIM_OK) {
    struct module *m = calloc(1, sizeof *m);
    *m = (struct module){e, text, 1};
    e->loaded = 1;
    e->modules++;
    e->uses++;
    *module = handle_new(MODULE, m);
  } else {
    free(text);
  }
  pthread_mutex_unlock(&mu);
  return status;
}

int32_t lindshim_module_load(uint64_t engine, const uint8_t *bytes, uint64_t len, uint64_t *module,
                             lindshim_error_t *err) {
  ENTER();
  return module_load(engine, bytes, len, 0, module, err);
}

int32_t lindshim_module_load_grate(uint64_t engine, const uint8_t *bytes, uint64_t len, uint64_t *module,
                                   lindshim_error_t *err) {
  ENTER();
  return module_load(engine, bytes, len, 1, module, err);
}

static uint64_t pages(const char *text) {
  unsigned long long n = 0;
  for (; text; text = line(text))
    if (sscanf(text, "memory %llu", &n) == 1) break;
  return n;
}

int32_t lindshim_module_info(uint64_t module, lindshim_module_info_t *out, lindshim_error_t *err) {
  ENTER();
  pthread_mutex_lock(&mu);
  struct module *m = handle_get(MODULE, module);
  if (m) {
    uint64_t n = pages(m->text);
    *out = (lindshim_module_info_t){
        count(m->text, "import "), count(m->text, "export "), n > 0, n > 0, n << 16, n << 16, 0, 0};
  }
  pthread_mutex_unlock(&mu);
  return m ? LINDSHIM_OK : fail(err, LINDSHIM_ERR_HANDLE, "no such module");
}

static int32_t get_extern(uint64_t module, const char *word, uint64_t i, lindshim_extern_t *out,
                          lindshim_error_t *err) {
  int32_t status = LINDSHIM_ERR_INVALID;
  pthread_mutex_lock(&mu);
  struct module *m = handle_get(MODULE, module);
  for (const char *text = m ? m->text : NULL; text; text = line(text)) {
    if (!starts(text, word) || i-- != 0) continue;
    memset(out, 0, sizeof *out);
    const char *name = text + strlen(word);
    if (starts(word, "import ")) {
      out->module = name;
      out->module_bytes = strcspn(name, " ");
      name += out->module_bytes + 1;
    }
    out->kind = LINDSHIM_EXTERN_FUNC;
    out->name = name;
    out->name_bytes = strcspn(name, "\n");
    strcpy(out->type_text, "() -> ()");
    status = LINDSHIM_OK;
    break;
  }
  pthread_mutex_unlock(&mu);
  if (!m) return fail(err, LINDSHIM_ERR_HANDLE, "no such module");
  return status == LINDSHIM_OK ? status : fail(err, status, "no such extern");
}

int32_t lindshim_module_import(uint64_t module, uint64_t i, lindshim_extern_t *out, lindshim_error_t *err) {
  ENTER();
  return get_extern(module, "import ", i, out, err);
}

int32_t lindshim_module_export(uint64_t module, uint64_t i, lindshim_extern_t *out, lindshim_error_t *err) {
  ENTER();
  return get_extern(module, "export ", i, out, err);
}

int32_t lindshim_module_delete(uint64_t module, lindshim_error_t *err) {
  ENTER();
  if (module == 0) return LINDSHIM_OK;
  pthread_mutex_lock(&mu);
  struct module *m = handle_get(MODULE, module);
  if (m) {
    handles[(uint32_t)module].kind = FREE;
    m->engine->modules--;
    module_release(m);
  }
  pthread_mutex_unlock(&mu);
  return m ? LINDSHIM_OK : fail(err, LINDSHIM_ERR_HANDLE, "no such module");
}

int32_t lindshim_domain_new(uint64_t module, const lindshim_domain_config_t *config, uint64_t *domain,
                            lindshim_error_t *err) {
  ENTER();
  int32_t status = LINDSHIM_OK;
  pthread_mutex_lock(&mu);
  struct module *m = handle_get(MODULE, module);
  uint64_t bytes = m ? pages(m->text) << 16 : 0;
  if (!m) status = fail(err, LINDSHIM_ERR_HANDLE, "no such module");
  else if (config->struct_size != sizeof *config) status = fail(err, LINDSHIM_ERR_ABI, "another size");
  else if (config->max_memory_bytes && bytes > config->max_memory_bytes)
    status = fail(err, LINDSHIM_ERR_MEMORY, "too much memory");
  if (status == LINDSHIM_OK) {
    struct domain *d = calloc(1, sizeof *d);
    d->module = m;
    m->uses++;
    m->engine->domains++;
    d->config = *config;
    d->fd = -1;
    if (bytes) d->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    d->memory_bytes = bytes;
    pthread_cond_init(&d->stop, NULL);
    pthread_cond_init(&d->served, NULL);
    *domain = d->handle = handle_new(DOMAIN, d);
  }
  pthread_mutex_unlock(&mu);
  return status;
}

static int32_t domain_start(uint64_t domain, const char *export, uint64_t export_bytes, int here,
                            lindshim_error_t *err) {
  int32_t status;
  uint32_t tid;
  join_ended(NULL);
  pthread_mutex_lock(&mu);
  struct domain *d = handle_get(DOMAIN, domain);
  if (!d) status = fail(err, LINDSHIM_ERR_HANDLE, "no such domain");
  else if (export_bytes != 6 || memcmp(export, "_start", 6)) status = fail(err, LINDSHIM_ERR_EXPORT, "no such export");
  else if (d->started) status = fail(err, LINDSHIM_ERR_BUSY, "started before");
  else status = begin(d, 0, here, &tid, err);
  if (status == LINDSHIM_OK) d->started = 1;
  pthread_mutex_unlock(&mu);
  return status;
}

int32_t lindshim_domain_start(uint64_t domain, const char *export, uint64_t export_bytes, lindshim_error_t *err) {
  ENTER();
  return domain_start(domain, export, export_bytes, 0, err);
}

int32_t lindshim_domain_begin(uint64_t domain, const char *export, uint64_t export_bytes, lindshim_error_t *err) {
  ENTER();
  return domain_start(domain, export, export_bytes, 1, err);
}

static int32_t thread_spawn(uint64_t domain, uint32_t arg, int here, uint32_t *tid, lindshim_error_t *err) {
  int32_t status;
  join_ended(NULL);
  pthread_mutex_lock(&mu);
  struct domain *d = handle_get(DOMAIN, domain);
  if (!d) status = fail(err, LINDSHIM_ERR_HANDLE, "no such domain");
  else if (!section(d->module->text, "thread")) status = fail(err, LINDSHIM_ERR_EXPORT, "no wasi_thread_start");
  else status = begin(d, arg, here, tid, err);
  pthread_mutex_unlock(&mu);
  return status;
}

int32_t lindshim_thread_begin(uint64_t domain, uint32_t arg, uint32_t *tid, lindshim_error_t *err) {
  ENTER();
  return thread_spawn(domain, arg, 1, tid, err);
}

int32_t lindshim_thread_run(uint64_t domain, uint32_t tid, lindshim_error_t *err) {
  ENTER();
  pthread_mutex_lock(&mu);
  struct domain *d = handle_get(DOMAIN, domain);
  struct thread *t = d ? d->threads : NULL;
  while (t && !(t->begun && t->state.tid == tid)) t = t->next;
  if (t) t->begun = 0;
  int closed = d && d->closed;
  struct engine *engine = d ? d->module->engine : NULL;
  pthread_mutex_unlock(&mu);
  if (!d) return fail(err, LINDSHIM_ERR_HANDLE, "no such domain");
  if (!t) return closed ? LINDSHIM_OK : fail(err, LINDSHIM_ERR_INVALID, "no such thread was begun");
  body(t);
  pthread_mutex_lock(&mu);
  engine->running--;
  pthread_cond_broadcast(&thread_ended);
  pthread_mutex_unlock(&mu);
  return LINDSHIM_OK;
}

#ifndef FAKE_OMIT_SPAWN
int32_t lindshim_thread_spawn(uint64_t domain, uint32_t arg, uint32_t *tid, lindshim_error_t *err) {
  ENTER();
  return thread_spawn(domain, arg, 0, tid, err);
}

int32_t lindshim_domain_stop(uint64_t domain, lindshim_error_t *err) {
  ENTER();
  pthread_mutex_lock(&mu);
  struct domain *d = handle_get(DOMAIN, domain);
  struct thread none = {.domain = d};
  int first = d && !d->closed;
  if (first) {
    d->closed = 1;
    d->stop_ns = now();
    for (struct thread *t = d->threads; t; t = t->next) {
      t->listed = t->inside || t->idle;
      t->stopped = t->state;
      if (t->idle) {
        t->stopped.thread_user = t->thread_user;
        t->stopped.outcome = LINDSHIM_END_STOPPED;
        t->stopped.left_ns = d->stop_ns;
      }
      if (t->begun) { // nobody runs it any more
        t->begun = t->inside = 0;
        t->stopped.outcome = LINDSHIM_END_STOPPED;
        t->stopped.left_ns = d->stop_ns;
        d->inside--;
        d->module->engine->running--;
        pthread_cond_broadcast(&thread_ended);
      }
    }
    for (struct frame *f = callers; f; f = f->next) {
      if (f->t->domain != d) continue;
      f->stopped = 1;
      if (*f->interrupt >= 0) eventfd_write(*f->interrupt, 1);
    }
    if (d->fd >= 0) eventfd_write(d->fd, 1);
    pthread_cond_broadcast(&d->stop);
    pthread_cond_broadcast(&d->served);
    d->inside++; // as leave expects
  }
  pthread_mutex_unlock(&mu);
  if (!d) return fail(err, LINDSHIM_ERR_HANDLE, "no such domain");
  if (first) leave(&none, 0);
  return LINDSHIM_OK;
}
#endif

int32_t lindshim_domain_cancel_fd(uint64_t domain, int32_t *fd, lindshim_error_t *err) {
  ENTER();
  pthread_mutex_lock(&mu);
  struct domain *d = handle_get(DOMAIN, domain);
  if (d && d->fd < 0) d->fd = eventfd(d->closed ? 1 : 0, EFD_CLOEXEC);
  if (d) *fd = d->fd;
  pthread_mutex_unlock(&mu);
  return d ? LINDSHIM_OK : fail(err, LINDSHIM_ERR_HANDLE, "no such domain");
}

int32_t lindshim_domain_threads(uint64_t domain, lindshim_thread_t *out, uint64_t cap, uint64_t *n,
                                lindshim_error_t *err) {
  ENTER();
  pthread_mutex_lock(&mu);
  struct domain *d = handle_get(DOMAIN, domain);
  uint64_t found = 0;
  for (struct thread *t = d ? d->threads : NULL; t; t = t->next) {
    if (!t->inside && !t->idle) continue;
    if (found < cap) out[found] = t->state;
    found++;
  }
  if (d) *n = found;
  pthread_mutex_unlock(&mu);
  return d ? LINDSHIM_OK : fail(err, LINDSHIM_ERR_HANDLE, "no such domain");
}

int32_t lindshim_domain_memory(uint64_t domain, uint8_t **base, uint64_t *bytes, lindshim_error_t *err) {
  ENTER();
  pthread_mutex_lock(&mu);
  struct domain *d = handle_get(DOMAIN, domain);
  if (d) {
    *base = d->memory;
    *bytes = d->memory_bytes;
  }
  pthread_mutex_unlock(&mu);
  return d ? LINDSHIM_OK : fail(err, LINDSHIM_ERR_HANDLE, "no such domain");
}

int32_t lindshim_domain_delete(uint64_t domain, lindshim_error_t *err) {
  ENTER();
  if (domain == 0) return LINDSHIM_OK;
  int32_t status = LINDSHIM_OK;
  pthread_mutex_lock(&mu);
  struct domain *d = handle_get(DOMAIN, domain);
  if (!d) status = fail(err, LINDSHIM_ERR_HANDLE, "no such domain");
  else if ((d->tids || d->port) && !d->quiescent) status = fail(err, LINDSHIM_ERR_BUSY, "it runs");
  if (status == LINDSHIM_OK) {
    handles[(uint32_t)domain].kind = FREE;
    d->module->engine->domains--;
    module_release(d->module);
    for (struct thread *t = d->threads, *next; t; t = next) {
      next = t->next;
      free(t);
    }
    if (d->memory) munmap(d->memory, d->memory_bytes);
    if (d->fd >= 0) close(d->fd);
    pthread_cond_destroy(&d->stop);
    pthread_cond_destroy(&d->served);
    free(d);
  }
  pthread_mutex_unlock(&mu);
  return status;
}

int32_t lindshim_grate_open(uint64_t domain, const lindshim_grate_config_t *config, uint64_t *port,
                            lindshim_error_t *err) {
  ENTER();
  int32_t status = LINDSHIM_OK;
  pthread_mutex_lock(&mu);
  struct domain *d = handle_get(DOMAIN, domain);
  if (!d) status = fail(err, LINDSHIM_ERR_HANDLE, "no such domain");
  else if (config->struct_size != sizeof *config) status = fail(err, LINDSHIM_ERR_ABI, "another size");
  else if (config->max_workers > 1024) status = fail(err, LINDSHIM_ERR_INVALID, "more than 1024 workers");
  else if (!is_grate(d->module->text)) status = fail(err, LINDSHIM_ERR_EXPORT, "no pass_fptr_to_wt");
  else if (d->closed) status = fail(err, LINDSHIM_ERR_CLOSED, "the domain is stopping");
  else if (d->port) status = fail(err, LINDSHIM_ERR_BUSY, "it is a grate already");
  if (status == LINDSHIM_OK) {
    d->grate = *config;
    if (!d->grate.max_workers) d->grate.max_workers = 16;
    *port = d->port = ++ports << 16;
  }
  pthread_mutex_unlock(&mu);
  return status;
}

// grate_at answers the grate that an entry names, or NULL if it is gone; mu is held.
static struct domain *grate_at(uint64_t entry) {
  for (uint32_t i = 0; entry >> 62 == 1 && i < HANDLES; i++) {
    struct domain *d = handles[i].kind == DOMAIN ? handles[i].object : NULL;
    if (d && d->port && d->port == entry << 2 >> 26) return d->closed ? NULL : d;
  }
  return NULL;
}

// worker answers a worker of the grate for one call; mu is held.
static struct thread *worker(struct domain *d) {
  struct thread *t = d->threads;
  while (t && !t->idle) t = t->next;
  if (!t) {
    t = calloc(1, sizeof *t);
    t->domain = d;
    t->state.tid = WORKER_TIDS + ++d->workers;
    t->state.worker = 1;
    t->next = d->threads;
    d->threads = t;
  }
  t->idle = 0;
  t->inside = 1;
  set_state(t, LINDSHIM_AT_GUEST, 0, 0);
  return t;
}

// serve has a worker of the grate serve a call, whose arguments and cage are args. mu is held, and released.
static int32_t serve(struct domain *d, const char *code, struct frame *caller, const uint64_t *args) {
  struct thread *t = worker(d);
  char message[256] = "";
  uint64_t last = 0;
  d->serving++;
  if (caller) {
    caller->next = callers;
    callers = caller;
  }
  pthread_mutex_unlock(&mu);
  uint32_t outcome = execute(t, code, caller, args, &last, message);
  pthread_mutex_lock(&mu);
  for (struct frame **f = &callers; caller && *f; f = &(*f)->next) {
    if (*f != caller) continue;
    *f = caller->next;
    break;
  }
  if (outcome == LINDSHIM_END_RETURNED) set_state(t, LINDSHIM_AT_IDLE, 0, 0);
  pthread_mutex_unlock(&mu);
  finish(t, outcome, message); // from here on d may be gone
  return outcome == LINDSHIM_END_RETURNED ? (int32_t)last : LINDSHIM_GRATE_ERR;
}

int32_t lindshim_grate_call(uint64_t entry, uint64_t cage, uint64_t call, const uint64_t *args, int32_t *result,
                            lindshim_error_t *err) {
  ENTER();
  struct frame *caller = os.frame;
  lindshim_trace_t trace = {.call = call, .depth = 1 + (caller ? caller->depth : 0), .start_ns = now()};
  uint64_t served[13];
  memcpy(served, args, 12 * sizeof *args);
  served[12] = cage;
  for (int i = 0; i < 6; i++) {
    trace.args[i] = args[2 * i];
    trace.argcages[i] = args[2 * i + 1];
  }
  if (caller) {
    trace.user = caller->t->domain->config.user;
    trace.thread_user = caller->call->thread_user;
    trace.tid = caller->t->state.tid;
  }
  pthread_mutex_lock(&mu);
  struct domain *d = grate_at(entry);
  if (!d) {
    pthread_mutex_unlock(&mu);
    return fail(err, LINDSHIM_ERR_CLOSED, "the grate is gone");
  }
  lindshim_engine_config_t *config = &d->module->engine->config;
  lindshim_trace_fn told = config->trace;
  trace.grate_user = d->config.user;
  int32_t status = LINDSHIM_OK;
  if (trace.depth > (config->max_call_depth ? config->max_call_depth : 16))
    status = fail(err, LINDSHIM_ERR_DEPTH, "calls are nested too deep");
  else if (d->grate.busy && d->serving >= d->grate.max_workers)
    status = fail(err, LINDSHIM_ERR_LIMIT, "all workers serve");
  if (status != LINDSHIM_OK) {
    pthread_mutex_unlock(&mu);
    return status;
  }
  struct thread none = {.domain = d};
  d->inside++; // so that the grate stays while this one waits
  while (!d->closed && d->serving >= d->grate.max_workers) pthread_cond_wait(&d->served, &mu);
  char name[32];
  snprintf(name, sizeof name, "serve%u", (unsigned)(entry & 0xffffff));
  const char *code = section(d->module->text, name);
  if (d->closed || !code) {
    status = d->closed ? fail(err, LINDSHIM_ERR_CLOSED, "the grate is gone") : LINDSHIM_OK;
    pthread_mutex_unlock(&mu);
    *result = -22; // EINVAL
    leave(&none, 0);
    return status;
  }
  d->inside++; // for the worker, who leaves it again
  trace.result = *result = serve(d, code, caller, served);
  leave(&none, 0);
  if (!caller || !caller->outer) close_interrupt();
  trace.duration_ns = now() - trace.start_ns;
  if (told) told(&trace);
  return LINDSHIM_OK;
}

int32_t lindshim_callers(lindshim_caller_t *out, uint64_t capacity, uint64_t *n, lindshim_error_t *err) {
  ENTER();
  (void)err;
  uint64_t found = 0;
  for (struct frame *f = os.frame ? os.frame->outer : NULL; f; f = f->outer, found++)
    if (found < capacity)
      out[found] = (lindshim_caller_t){f->t->domain->config.user, f->call->thread_user, f->t->state.tid, f->depth > 0};
  *n = found;
  return LINDSHIM_OK;
}

int32_t lindshim_quit_caller(uint64_t i, lindshim_error_t *err) {
  ENTER();
  struct frame *f = os.frame ? os.frame->outer : NULL;
  while (f && i--) f = f->outer;
  if (!f) return fail(err, LINDSHIM_ERR_INVALID, "there is no such caller");
  return LINDSHIM_OK; // all that call grates here are in a host call, whose verdict counts
}

int32_t lindshim_fault_set(const char *name, uint64_t name_bytes, const char *actions, uint64_t actions_bytes,
                           lindshim_error_t *err) {
  ENTER();
  (void)name, (void)name_bytes, (void)actions, (void)actions_bytes;
  return fail(err, LINDSHIM_ERR_UNSUPPORTED, "built without faults");
}

int32_t lindshim_fault_info(uint64_t i, lindshim_fault_t *out, lindshim_error_t *err) {
  ENTER();
  (void)i, (void)out;
  return fail(err, LINDSHIM_ERR_INVALID, "there is no failure point");
}

int32_t lindshim_interrupt_fd(int32_t *fd, lindshim_error_t *err) {
  ENTER();
  if (!os.frame) return fail(err, LINDSHIM_ERR_INVALID, "the caller is in no host call");
  pthread_mutex_lock(&mu);
  if (os.interrupt < 0) {
    os.interrupt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (struct frame *f = os.frame->outer; f; f = f->outer)
      if (f->stopped) eventfd_write(os.interrupt, 1);
  }
  *fd = os.interrupt;
  pthread_mutex_unlock(&mu);
  return LINDSHIM_OK;
}
#endif
