// The policies of the deny grate, and its table of descriptors' paths.
#include <stdio.h>
#include <stdlib.h>

#include "fdpaths.h"
#include "lind_abi.h"
#include "lind_host.h"
#include "policy.h"

static policy_t parse(const char *text)
{
    policy_t p = {0};
    const char *why;
    size_t line = policy_parse(&p, text, strlen(text), &why);
    if (line != 0) {
        fprintf(stderr, "line %zu: %s\n", line, why);
        abort();
    }
    return p;
}

static int ask(const policy_t *p, uint32_t number, const char *path)
{
    bool modifies;
    action_t action = policy_action(number, &modifies);
    question_t q = {number, action, modifies, action == ACTION_RENAME, path};
    int error = policy_ask(p, &q);
    CHECK(error == 0 || policy_concerns(p, number)); // what can be denied is asked about
    return error;
}

static void expect_bad(const char *text, size_t line)
{
    policy_t p = {0};
    const char *why = NULL;
    size_t got = policy_parse(&p, text, strlen(text), &why);
    if (got != line || (line != 0 && !why)) {
        fprintf(stderr, "%s: line %zu, not %zu\n", text, got, line);
        abort();
    }
    lind_arena_free(&p.arena);
}

static void test_grammar(void)
{
    expect_bad("", 0);
    expect_bad("# only this\n\n   \t\r\n", 0);
    expect_bad("allow open /a\ndeny *\ndefault deny", 0);
    expect_bad("deny 107\n", 0);
    expect_bad("forbid open\n", 1);
    expect_bad("\n\ndeny\n", 3);
    expect_bad("deny no_such_call\n", 1);
    expect_bad("deny 1024\n", 1);
    expect_bad("deny open a\n", 1);
    expect_bad("deny read /a\n", 1);
    expect_bad("default\n", 1);
    expect_bad("default maybe\n", 1);
    expect_bad("default deny /a\n", 1);
    expect_bad("default deny\ndefault allow\n", 2);
    expect_bad("deny open /a\x01", 1);
    expect_bad("deny a_name_that_is_longer_than_any_system_call_ever_was_or_will_be_in_linux\n", 1);
    char *text = malloc(6000);
    memset(text, 'a', 6000);
    memcpy(text, "deny open /", 11);
    text[5999] = 0;
    expect_bad(text, 1);
    free(text);
    policy_t p = {0};
    const char *why;
    CHECK(policy_parse(&p, "deny open\0\n", 11, &why) == 1); // a NUL
    lind_arena_free(&p.arena);
}

static void test_first_match_wins(void)
{
    policy_t p = parse("allow open /data/public\ndeny open /data/\nallow open /data/late\ndeny mkdir\n");
    CHECK(ask(&p, LIND_SYS_OPENAT, "/data/public") == 0);
    CHECK(ask(&p, LIND_SYS_OPENAT, "/data/public/x") == 0);
    CHECK(ask(&p, LIND_SYS_OPEN, "/data/publicx") == LIND_EACCES);
    CHECK(ask(&p, LIND_SYS_OPENAT, "/data") == LIND_EACCES);
    CHECK(ask(&p, LIND_SYS_OPENAT, "/data/late") == LIND_EACCES);
    CHECK(ask(&p, LIND_SYS_OPENAT, "/database") == 0);
    CHECK(ask(&p, LIND_SYS_MKDIRAT, "/x") == LIND_EPERM);
    CHECK(ask(&p, LIND_SYS_NEWFSTATAT, "/data/x") == 0);
    CHECK(ask(&p, LIND_SYS_READ, NULL) == 0);
    lind_arena_free(&p.arena);
}

static void test_unknown_paths_are_denied(void)
{
    policy_t p = parse("allow open /public\ndeny open /secret\n");
    CHECK(ask(&p, LIND_SYS_OPENAT, NULL) == LIND_EACCES);
    lind_arena_free(&p.arena);
    p = parse("allow open /public\ndefault deny\n");
    CHECK(ask(&p, LIND_SYS_OPENAT, NULL) == LIND_EPERM);
    lind_arena_free(&p.arena);
    p = parse("allow open\ndeny open /secret\n");
    CHECK(ask(&p, LIND_SYS_OPENAT, NULL) == 0);
    lind_arena_free(&p.arena);
}

static void test_classes(void)
{
    policy_t p = parse("deny modify /ro\n");
    CHECK(ask(&p, LIND_SYS_UNLINKAT, "/ro/x") == LIND_EACCES);
    CHECK(ask(&p, LIND_SYS_RENAMEAT, "/ro/x") == LIND_EACCES);
    CHECK(ask(&p, LIND_SYS_OPENAT, "/ro/x") == 0);
    question_t write = {LIND_SYS_OPENAT, ACTION_OPEN, true, false, "/ro/x"};
    CHECK(policy_ask(&p, &write) == LIND_EACCES);
    CHECK(policy_concerns(&p, LIND_SYS_OPENAT));
    lind_arena_free(&p.arena);
    p = parse("deny file /\n");
    CHECK(ask(&p, LIND_SYS_NEWFSTATAT, "/") == LIND_EACCES);
    CHECK(ask(&p, LIND_SYS_READ, NULL) == 0);
    lind_arena_free(&p.arena);
    p = parse("deny *\n");
    CHECK(ask(&p, LIND_SYS_GETPID, NULL) == LIND_EPERM);
    CHECK(ask(&p, LIND_SYS_EXIT_GROUP, NULL) == 0);
    lind_arena_free(&p.arena);
    p = parse("default deny\nallow 39\n");
    CHECK(ask(&p, LIND_SYS_GETPID, NULL) == 0);
    CHECK(ask(&p, LIND_SYS_READ, NULL) == LIND_EPERM);
    CHECK(ask(&p, LIND_SYS_EXIT, NULL) == 0);
    lind_arena_free(&p.arena);
    p = parse("deny exit_group\n");
    CHECK(ask(&p, LIND_SYS_EXIT_GROUP, NULL) == LIND_EPERM);
    lind_arena_free(&p.arena);
}

// What would give something a name that the rules do not know.
static void test_ways_around(void)
{
    policy_t p = parse("deny open /a/secret\nallow *\n");
    CHECK(ask(&p, LIND_SYS_SYMLINKAT, "/x") == LIND_EPERM);
    CHECK(ask(&p, LIND_CALL_REGISTER_HANDLER, NULL) == LIND_EPERM);
    CHECK(ask(&p, LIND_CALL_COPY_HANDLER_TABLE, NULL) == LIND_EPERM);
    CHECK(ask(&p, LIND_CALL_COPY_DATA, NULL) == 0);
    // Renaming what is above: asked as the grate does, about opening what comes with it.
    question_t above = {LIND_SYS_OPENAT, ACTION_OPEN, false, true, "/a"};
    CHECK(policy_ask(&p, &above) == LIND_EACCES);
    above.path = "/b";
    CHECK(policy_ask(&p, &above) == 0);
    lind_arena_free(&p.arena);
    p = parse("deny open /a/secret\nallow symlink /a\n");
    CHECK(ask(&p, LIND_SYS_SYMLINKAT, "/a/x") == 0);
    CHECK(ask(&p, LIND_SYS_SYMLINKAT, "/b/x") == LIND_EPERM);
    lind_arena_free(&p.arena);
    p = parse("deny mkdir\n");
    CHECK(ask(&p, LIND_SYS_SYMLINKAT, "/x") == 0); // no paths: no names to hide
    lind_arena_free(&p.arena);
}

// Any text is a policy or an error in one of its lines, and nothing else happens.
static void test_random_texts(void)
{
    static const char *const words[] = {"allow", "deny", "default", "open", "*", "file", "/a/../b", "/", "#", "\n",
                                        "\n", " ", " ", "\t", "107", "modify", "\x80\xff", "exit"};
    char text[512];
    srand(2);
    for (int round = 0; round < 50000; round++) {
        size_t n = 0, lines = 1;
        for (int w = rand() % 30; w > 0; w--) {
            const char *word = words[(size_t)rand() % (sizeof words / sizeof *words)];
            lines += *word == '\n';
            memcpy(text + n, word, strlen(word));
            n += strlen(word);
        }
        policy_t p = {0};
        const char *why;
        CHECK(policy_parse(&p, text, n, &why) <= lines);
        lind_arena_free(&p.arena);
    }
    // Without memory, too.
    for (long allowed = 0; allowed < 2; allowed++) {
        policy_t p = {0};
        const char *why;
        host_fail_after(allowed);
        CHECK(policy_parse(&p, "deny open /a\n", 13, &why) == (allowed == 0));
        host_fail_after(-1);
        lind_arena_free(&p.arena);
    }
}

static void test_fdpaths(void)
{
    static fdpaths_t t;
    char path[LIND_PATH_MAX];
    CHECK(!fdpaths_get(&t, 7, 4, path));
    fdpaths_set(&t, 7, 4, "/a");
    fdpaths_set(&t, 8, 4, "/b");
    fdpaths_set(&t, 7, 5, "/c");
    CHECK(fdpaths_get(&t, 7, 4, path) && strcmp(path, "/a") == 0);
    fdpaths_set(&t, 7, 4, "/d");
    CHECK(fdpaths_get(&t, 7, 4, path) && strcmp(path, "/d") == 0);
    fdpaths_drop(&t, 7, 4);
    fdpaths_drop(&t, 7, 4);
    CHECK(!fdpaths_get(&t, 7, 4, path));
    // Without memory it is unknown, and not what it was.
    host_fail_after(0);
    fdpaths_set(&t, 7, 5, "/e");
    host_fail_after(-1);
    CHECK(!fdpaths_get(&t, 7, 5, path));
    for (int fd = 0; fd < FDPATHS_MAX + 10; fd++)
        fdpaths_set(&t, 9, fd, "/x");
    CHECK(!fdpaths_get(&t, 9, FDPATHS_MAX + 5, path));
    fdpaths_drop_cage(&t, 9);
    CHECK(fdpaths_get(&t, 8, 4, path) && t.count == 1);
    fdpaths_drop_cage(&t, 8);
    CHECK(t.count == 0);
}

int main(void)
{
    test_grammar();
    test_first_match_wins();
    test_unknown_paths_are_denied();
    test_classes();
    test_ways_around();
    test_random_texts();
    test_fdpaths();
    CHECK(host_live() == 0);
    return 0;
}
