// lind_path.h: paths as text. Nothing here looks at files: a symbolic link is a name like any other. Link with lind_path.c.
#ifndef LIND_PATH_H
#define LIND_PATH_H

#include <stdbool.h>

enum {
    LIND_PATH_IS_DIR = 1,  // the path says that it leads to a directory: it ends in "/", "/." or "/.."
    LIND_PATH_IS_DOTS = 2, // its last component is "." or ".."
};

// Writes to out, LIND_PATH_MAX bytes, what path is when it is looked at from the directory base: absolute, with single
// slashes, without "." and "..", and without a slash at its end unless it is "/". base has that form. An absolute path does
// not count base, and its ".." at the root stay there. *how, if not NULL, gets LIND_PATH_ flags.
//
// Answers 0, or -LIND_ENOENT (path is empty), -LIND_ENAMETOOLONG (the whole, or a component with more than 255 bytes), or
// -LIND_EXDEV (a relative path that leads out of base on its way).
int lind_path_join(char *out, const char *base, const char *path, int *how);

// Whether path is prefix or beneath it, both in the form that lind_path_join writes.
bool lind_path_beneath(const char *prefix, const char *path);

#endif
