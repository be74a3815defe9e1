// Paths as text: what lind_path_join makes of them, against a table and against its own promises for random ones.
#include <stdio.h>
#include <stdlib.h>

#include "lind_abi.h"
#include "lind_host.h"
#include "lind_path.h"
#include "lind_rt.h"

static void expect(const char *base, const char *path, const char *want, int how)
{
    char got[LIND_PATH_MAX];
    int flags = -1;
    CHECK(lind_path_join(got, base, path, &flags) == 0);
    if (strcmp(got, want) != 0 || flags != how) {
        fprintf(stderr, "join(%s, %s) is %s %d, not %s %d\n", base, path, got, flags, want, how);
        abort();
    }
}

static void expect_error(const char *base, const char *path, int error)
{
    char got[LIND_PATH_MAX];
    CHECK(lind_path_join(got, base, path, NULL) == -error);
}

static void test_table(void)
{
    enum { DIR = LIND_PATH_IS_DIR, DOTS = LIND_PATH_IS_DIR | LIND_PATH_IS_DOTS };
    expect("/", "a", "/a", 0);
    expect("/", "/", "/", DIR);
    expect("/", "//a///b", "/a/b", 0);
    expect("/", "a/", "/a", DIR);
    expect("/", "a/.", "/a", DOTS);
    expect("/", "a/./", "/a", DOTS);
    expect("/", "a/b/..", "/a", DOTS);
    expect("/", "a/b/../c", "/a/c", 0);
    expect("/x", "a", "/x/a", 0);
    expect("/x/y", "a/../b", "/x/y/b", 0);
    expect("/x/y", "./", "/x/y", DOTS);
    expect("/x", "/../a", "/a", 0);
    expect("/x", "/a/../../../b", "/b", 0);
    expect("/x", "/..", "/", DOTS);
    expect("/", ".", "/", DOTS);
    expect("/", "...", "/...", 0);
    expect("/", "..a/b..", "/..a/b..", 0);
    expect_error("/", "", LIND_ENOENT);
    expect_error("/", "..", LIND_EXDEV);
    expect_error("/", "a/../../b", LIND_EXDEV);
    expect_error("/x", "../x/a", LIND_EXDEV);
    expect_error("/x", "a/../..", LIND_EXDEV);
}

static void test_lengths(void)
{
    char path[2 * LIND_PATH_MAX], got[LIND_PATH_MAX];
    memset(path, 'a', sizeof path);
    path[255] = 0;
    CHECK(lind_path_join(got, "/", path, NULL) == 0);
    path[255] = 'a';
    path[256] = 0;
    expect_error("/", path, LIND_ENAMETOOLONG);
    // The longest that fits: 4095 bytes.
    for (int i = 0; i < LIND_PATH_MAX; i++)
        path[i] = i % 2 ? 'b' : '/';
    path[LIND_PATH_MAX - 2] = 0;
    CHECK(lind_path_join(got, "/", path, NULL) == 0 && strlen(got) == LIND_PATH_MAX - 2);
    path[LIND_PATH_MAX - 2] = '/';
    path[LIND_PATH_MAX - 1] = 'b';
    path[LIND_PATH_MAX] = 0;
    expect_error("/", path, LIND_ENAMETOOLONG);
}

static void test_beneath(void)
{
    CHECK(lind_path_beneath("/", "/"));
    CHECK(lind_path_beneath("/", "/a"));
    CHECK(lind_path_beneath("/a", "/a"));
    CHECK(lind_path_beneath("/a", "/a/b"));
    CHECK(!lind_path_beneath("/a", "/ab"));
    CHECK(!lind_path_beneath("/a", "/"));
    CHECK(!lind_path_beneath("/a/b", "/a"));
}

// Whatever comes in, what goes out has the form that is promised, and joining it again changes nothing.
static void test_random(void)
{
    static const char letters[] = "//..ab";
    char base[LIND_PATH_MAX] = "/", path[64], got[LIND_PATH_MAX], again[LIND_PATH_MAX];
    srand(1);
    for (int round = 0; round < 200000; round++) {
        size_t n = (size_t)(rand() % 24);
        for (size_t i = 0; i < n; i++)
            path[i] = letters[rand() % 6];
        path[n] = 0;
        int error = lind_path_join(got, base, path, NULL);
        if (error != 0) {
            CHECK(error == (n == 0 ? -LIND_ENOENT : -LIND_EXDEV));
            continue;
        }
        CHECK(got[0] == '/' && !strstr(got, "//") && !strstr(got, "/./") && !strstr(got, "/../"));
        CHECK(strlen(got) == 1 || got[strlen(got) - 1] != '/');
        CHECK(path[0] == '/' || lind_path_beneath(base, got));
        CHECK(lind_path_join(again, "/", got, NULL) == 0 && strcmp(again, got) == 0);
        if (strlen(got) < 64)
            memcpy(base, got, strlen(got) + 1);
    }
}

int main(void)
{
    test_table();
    test_lengths();
    test_beneath();
    test_random();
    return 0;
}
