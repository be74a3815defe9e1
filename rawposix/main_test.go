package rawposix_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if run := os.Getenv(childEnv); run != "" {
		os.Exit(runChild(run))
	}
	goleak.VerifyTestMain(m)
}
