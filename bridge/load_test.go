package bridge_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lindbridge/lindbridge/bridge"
)

// helperEnv set makes the test binary a program that opens a shim and prints its path.
const helperEnv = "LINDBRIDGE_TEST_HELPER"

func helperMain() {
	e, err := bridge.Open(bridge.Config{Handler: newHost(keepGoing)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(e.ShimPath())
	if err := e.Close(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runHelper runs a copy of the test binary at path.
func runHelper(t *testing.T, path string, env ...string) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	copyFile(t, exe, path)
	cmd := exec.Command(path)
	cmd.Dir = t.TempDir()
	// With -cover a program that is not told where to leave its data says so.
	cmd.Env = append([]string{helperEnv + "=1", "PATH=" + os.Getenv("PATH"), "GOCOVERDIR=" + t.TempDir()}, env...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(to), 0o777))
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b, 0o777))
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o777))
	must(t, os.WriteFile(path, []byte(text), 0o666))
}

// tempDir is a temporary directory by its real name.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	return dir
}

// sourceTree makes a source tree with the working directory two levels below its top.
func sourceTree(t *testing.T, module string) string {
	t.Helper()
	top := tempDir(t)
	writeFile(t, filepath.Join(top, "go.mod"), "// a comment\nmodule "+module+"\n\ngo 1.26\n")
	must(t, os.MkdirAll(filepath.Join(top, "a", "b"), 0o777))
	t.Chdir(filepath.Join(top, "a", "b"))
	t.Setenv(bridge.EnvShim, "")
	return top
}

const ourModule = "github.com/lindbridge/lindbridge"

func tryOpen(t *testing.T, path string) (string, error) {
	t.Helper()
	e, err := bridge.Open(bridge.Config{Path: path, Handler: newHost(keepGoing)})
	if err != nil {
		return "", err
	}
	must(t, e.Close())
	return e.ShimPath(), nil
}

func TestOpen_NamesEveryPlaceTriedAndHowToBuild(t *testing.T) {
	top := sourceTree(t, ourModule)
	_, err := tryOpen(t, "")
	mustBe(t, err, bridge.ErrShimNotFound)
	mustBe(t, err, fs.ErrNotExist)
	exe, exeErr := os.Executable()
	must(t, exeErr)
	contains(t, err.Error(), "make build", bridge.EnvShim,
		filepath.Join(filepath.Dir(exe), "liblindshim.so")+" (next to the executable): no such file",
		filepath.Join(exe, "..", "..", "lib", "liblindshim.so")+" (../lib of the executable): no such file",
		filepath.Join(top, "a/b/build/liblindshim.so")+" (build directory of the source tree): no such file",
		filepath.Join(top, "a/build/liblindshim.so"), filepath.Join(top, "build/liblindshim.so"),
		"liblindshim.so (the system's loader): liblindshim.so: cannot open shared object file")
	if above := filepath.Join(filepath.Dir(top), "build"); strings.Contains(err.Error(), above) {
		t.Errorf("%s is above the source tree and was searched: %v", above, err)
	}
}

func TestOpen_FindsShimInBuildOfSourceTree(t *testing.T) {
	top := sourceTree(t, ourModule)
	want := filepath.Join(top, "build", "liblindshim.so")
	copyFile(t, fakeShim(t), want)
	got, err := tryOpen(t, "")
	must(t, err)
	equal(t, "path", got, want)
}

func TestOpen_LoadsNothingFromBuildOutsideSourceTree(t *testing.T) {
	top := sourceTree(t, "example.com/other")
	copyFile(t, fakeShim(t), filepath.Join(top, "build", "liblindshim.so"))
	copyFile(t, fakeShim(t), filepath.Join(top, "a", "b", "build", "liblindshim.so"))
	_, err := tryOpen(t, "")
	mustBe(t, err, bridge.ErrShimNotFound)
	contains(t, err.Error(), "is not in a source tree of "+ourModule)
}

func TestOpen_FirstFileThatExistsDecides(t *testing.T) {
	top := sourceTree(t, ourModule)
	broken := filepath.Join(top, "a", "build", "liblindshim.so")
	writeFile(t, broken, "no library")
	copyFile(t, fakeShim(t), filepath.Join(top, "build", "liblindshim.so"))
	_, err := tryOpen(t, "")
	mustBe(t, err, bridge.ErrShimNotFound)
	contains(t, err.Error(), broken+" (build directory of the source tree): "+broken+": file too short")
}

func TestOpen_EnvironmentDecidesAlone(t *testing.T) {
	top := sourceTree(t, ourModule)
	copyFile(t, fakeShim(t), filepath.Join(top, "build", "liblindshim.so"))
	t.Setenv(bridge.EnvShim, fakeShim(t))
	got, err := tryOpen(t, "")
	must(t, err)
	equal(t, "path", got, fakeShim(t))

	missing := filepath.Join(top, "missing.so")
	t.Setenv(bridge.EnvShim, missing)
	_, err = tryOpen(t, "")
	mustBe(t, err, bridge.ErrShimNotFound)
	contains(t, err.Error(), missing+" (LINDBRIDGE_SHIM): no such file")
	if strings.Contains(err.Error(), filepath.Join(top, "build")) {
		t.Errorf("something else was tried: %v", err)
	}
}

func TestOpen_PathDecidesAlone(t *testing.T) {
	top := sourceTree(t, ourModule)
	t.Setenv(bridge.EnvShim, fakeShim(t))
	missing := filepath.Join(top, "missing.so")
	_, err := tryOpen(t, missing)
	mustBe(t, err, bridge.ErrShimNotFound)
	contains(t, err.Error(), missing+" (Config.Path): no such file")
	if strings.Contains(err.Error(), fakeShim(t)) {
		t.Errorf("something else was tried: %v", err)
	}
}

func TestOpen_RelativePathIsAFileAndNotASoname(t *testing.T) {
	top := sourceTree(t, ourModule)
	copyFile(t, fakeShim(t), filepath.Join(top, "a", "b", "shim.so"))
	got, err := tryOpen(t, "shim.so")
	must(t, err)
	equal(t, "path", got, filepath.Join(top, "a", "b", "shim.so"))
}

func TestOpen_FindsShimNextToExecutable(t *testing.T) {
	dir := tempDir(t)
	want := filepath.Join(dir, "liblindshim.so")
	copyFile(t, fakeShim(t), want)
	out, err := runHelper(t, filepath.Join(dir, "prog"))
	if err != nil || out != want {
		t.Fatalf("%v: %s, want %s", err, out, want)
	}
}

func TestOpen_FindsShimInLibOfExecutable(t *testing.T) {
	dir := tempDir(t)
	want := filepath.Join(dir, "lib", "liblindshim.so")
	copyFile(t, fakeShim(t), want)
	out, err := runHelper(t, filepath.Join(dir, "bin", "prog"))
	if err != nil || out != want {
		t.Fatalf("%v: %s, want %s", err, out, want)
	}
}

func TestOpen_FindsShimByLoader(t *testing.T) {
	dir, libs := tempDir(t), tempDir(t)
	copyFile(t, fakeShim(t), filepath.Join(libs, "liblindshim.so"))
	out, err := runHelper(t, filepath.Join(dir, "prog"), "LD_LIBRARY_PATH="+libs)
	if err != nil || out != "liblindshim.so" {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestOpen_RefusesShimThatDoesNotFit(t *testing.T) {
	// FAKE_NO_CALLS kills the process if anything but the version and the sizes is asked for.
	for _, tt := range []struct {
		name    string
		defines []string
		say     []string
	}{
		{
			"older",
			[]string{"FAKE_VERSION=0", "FAKE_NO_CALLS"},
			[]string{"older than this program", "its ABI is 0, the program's 5", "make build"},
		},
		{
			"newer",
			[]string{"FAKE_VERSION=99", "FAKE_NO_CALLS"},
			[]string{"newer than this program", "its ABI is 99, the program's 5", "rebuild the program"},
		},
		{
			"lacks functions",
			[]string{"FAKE_OMIT_SPAWN", "FAKE_NO_CALLS"},
			[]string{"lacks lindshim_thread_spawn, lindshim_domain_stop", "other sources", "make build"},
		},
		{
			"older and lacks functions",
			[]string{"FAKE_OMIT_SPAWN", "FAKE_NO_CALLS", "FAKE_VERSION=0"},
			[]string{"lacks lindshim_thread_spawn, lindshim_domain_stop", "older than this program"},
		},
		{"no shim", []string{"FAKE_BARE"}, []string{"no shim"}},
		{
			"other sizes",
			[]string{"FAKE_WRONG_SIZES", "FAKE_NO_CALLS"},
			[]string{
				"lindshim_call_t has 112 bytes in the shim and 104 in this program",
				"lindshim_report_t has 0 bytes", "make build",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := fakeShim(t, tt.defines...)
			_, err := tryOpen(t, path)
			mustBe(t, err, bridge.ErrABI)
			contains(t, err.Error(), append(tt.say, path)...)
		})
	}
}

func TestOpen_RefusesFileThatIsNoLibrary(t *testing.T) {
	path := filepath.Join(tempDir(t), "text.so")
	writeFile(t, path, strings.Repeat("no library\n", 100))
	_, err := tryOpen(t, path)
	mustBe(t, err, bridge.ErrShimNotFound)
	contains(t, err.Error(), "invalid ELF header")
}

func TestOpen_RefusesConfigWithoutHandler(t *testing.T) {
	_, err := bridge.Open(bridge.Config{Path: fakeShim(t)})
	mustBe(t, err, bridge.ErrInvalid)
}

func TestOpen_PassesTheConfigToTheShim(t *testing.T) {
	_, err := bridge.Open(bridge.Config{Path: fakeShim(t), Handler: newHost(keepGoing), CacheDir: "not/absolute"})
	mustBe(t, err, bridge.ErrInvalid)
	contains(t, err.Error(), "cache directory not/absolute is not absolute")

	e := openFake(t, newHost(keepGoing))
	equal(t, "version", e.ShimVersion(), "fakeshim 0.0.0 (no runtime)")
}
