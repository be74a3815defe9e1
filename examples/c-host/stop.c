/*
 * stop: a host in C that uses nothing but the shim. It runs a program of three threads, of which one spins, one waits in
 * memory.atomic.wait32 and one blocks in a call of the host, stops them, and says where each was. Build it with
 *
 *     cc -Irust-shim/include examples/c-host/stop.c build/liblindshim.a -lpthread -ldl -lm
 */
#include "lindshim.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the host offers, by the ids that it gives its imports. */
enum { CALL_SPAWN = 1, CALL_READY = 2, CALL_BLOCK = 3 };

static const char program[] =
    "(module"
    "  (import \"wasi\" \"thread-spawn\" (func $spawn (param i32) (result i32)))"
    "  (import \"host\" \"ready\" (func $ready))"
    "  (import \"host\" \"block\" (func $block))"
    "  (import \"env\" \"memory\" (memory 1 1 shared))"
    "  (func $spin (call $ready) (loop $again (br $again)))"
    "  (func $wait (call $ready)"
    "    (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1))))"
    "  (func (export \"wasi_thread_start\") (param $tid i32) (param $arg i32)"
    "    (if (local.get $arg) (then (call $wait)) (else (call $spin))))"
    "  (func (export \"_start\")"
    "    (drop (call $spawn (i32.const 0)))"
    "    (drop (call $spawn (i32.const 1)))"
    "    (call $ready)"
    "    (call $block)))";

/* What the callbacks, which run on the shim's threads, tell main. */
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int ready;     /* guarded by mu */
static int quiescent; /* guarded by mu */

static void add(int *count)
{
    pthread_mutex_lock(&mu);
    ++*count;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mu);
}

static void await(const int *count, int value)
{
    pthread_mutex_lock(&mu);
    while (*count < value)
        pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
}

/* A call that would block for good: it waits for the domain's cancel token and nothing else. */
static int32_t block(uint64_t domain)
{
    struct pollfd cancel = {.events = POLLIN};
    if (lindshim_domain_cancel_fd(domain, &cancel.fd, NULL) != LINDSHIM_OK)
        return LINDSHIM_TRAP;
    while (poll(&cancel, 1, -1) < 0)
        continue; /* EINTR */
    return LINDSHIM_CONTINUE; /* the shim sees that the domain is stopping, and ends the thread */
}

static int32_t host_call(lindshim_call_t *call)
{
    uint32_t tid;
    switch (call->import) {
    case CALL_SPAWN:
        if (lindshim_thread_spawn(call->domain, (uint32_t)call->args[0], &tid, NULL) != LINDSHIM_OK)
            return LINDSHIM_TRAP;
        call->args[0] = tid;
        return LINDSHIM_CONTINUE;
    case CALL_READY:
        add(&ready);
        return LINDSHIM_CONTINUE;
    case CALL_BLOCK:
        return block(call->domain);
    }
    return LINDSHIM_TRAP;
}

/* A program whose thread traps is ended here, as is one whose first thread returns. */
static void thread_end(const lindshim_thread_end_t *end)
{
    if (end->outcome != LINDSHIM_END_TRAPPED && !end->main)
        return;
    if (end->message)
        fprintf(stderr, "thread %u: %.*s\n", end->tid, (int)end->message_bytes, end->message);
    lindshim_domain_stop(end->domain, NULL);
}

static void quiescent_now(const lindshim_report_t *report)
{
    static const char *const states[] = {"starting", "running", "in a host call", "in an atomic wait", "ended"};
    printf("all threads have left after %llu us\n",
           (unsigned long long)(report->quiescent_ns - report->stop_ns) / 1000);
    for (uint64_t i = 0; i < report->thread_count; i++) {
        const lindshim_thread_t *t = &report->threads[i];
        printf("  thread %u was %s\n", t->tid, t->state < 5 ? states[t->state] : "somewhere");
    }
    add(&quiescent);
}

static void check(int32_t status, const lindshim_error_t *err, const char *what)
{
    if (status == LINDSHIM_OK)
        return;
    fprintf(stderr, "%s: %.*s\n", what, (int)err->len, err->text);
    exit(1);
}

static lindshim_import_t import(const char *module, const char *name, const char *params, const char *results, uint32_t id)
{
    return (lindshim_import_t){
        .module = module, .module_bytes = strlen(module), .name = name, .name_bytes = strlen(name),
        .params = params, .params_bytes = strlen(params), .results = results, .results_bytes = strlen(results), .id = id,
    };
}

int main(void)
{
    if (lindshim_abi_version() != LINDSHIM_ABI_VERSION ||
        lindshim_struct_size(LINDSHIM_STRUCT_CALL) != sizeof(lindshim_call_t)) {
        fprintf(stderr, "this program was built for another shim than %s\n", lindshim_version());
        return 1;
    }
    const lindshim_engine_config_t engine_config = {
        .struct_size = sizeof engine_config, .abi_version = LINDSHIM_ABI_VERSION,
        .host_call = host_call, .thread_end = thread_end, .quiescent = quiescent_now,
    };
    const lindshim_import_t imports[] = {
        import("wasi", "thread-spawn", "i", "i", CALL_SPAWN),
        import("host", "ready", "", "", CALL_READY),
        import("host", "block", "", "", CALL_BLOCK),
    };
    const lindshim_domain_config_t domain_config = {.struct_size = sizeof domain_config};
    lindshim_error_t err;
    uint64_t engine, module, domain;

    check(lindshim_engine_new(&engine_config, &engine, &err), &err, "engine");
    check(lindshim_engine_define(engine, imports, 3, &err), &err, "imports");
    check(lindshim_module_load(engine, (const uint8_t *)program, sizeof program - 1, &module, &err), &err, "module");
    check(lindshim_domain_new(module, &domain_config, &domain, &err), &err, "domain");
    check(lindshim_domain_start(domain, "_start", 6, &err), &err, "start");

    await(&ready, 3);
    check(lindshim_domain_stop(domain, &err), &err, "stop");
    await(&quiescent, 1);

    check(lindshim_domain_delete(domain, &err), &err, "delete the domain");
    check(lindshim_module_delete(module, &err), &err, "delete the module");
    check(lindshim_engine_delete(engine, &err), &err, "delete the engine");
    return 0;
}
