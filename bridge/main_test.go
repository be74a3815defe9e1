package bridge_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// packageDir is where the tests begin: some change their working directory.
var packageDir string

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		helperMain()
	}
	var err error
	if packageDir, err = os.Getwd(); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := removeFakes(); err != nil {
			println(err.Error())
			code = max(code, 1)
		}
		os.Exit(code)
	}))
}
