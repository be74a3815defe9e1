package bridge_test

import (
	"fmt"
	"testing"

	"github.com/lindbridge/lindbridge/bridge"
)

func TestString_NamesEveryValueAndAdmitsTheUnknown(t *testing.T) {
	for _, tt := range []struct {
		value fmt.Stringer
		want  string
	}{
		{bridge.Continue, "continue"},
		{bridge.QuitThread, "quit thread"},
		{bridge.TrapThread, "trap thread"},
		{bridge.WaitThread, "wait"},
		{bridge.Verdict(9), "unknown verdict 9"},
		{bridge.EndReturned, "returned"},
		{bridge.EndQuit, "quit"},
		{bridge.EndStopped, "stopped"},
		{bridge.EndTrapped, "trapped"},
		{bridge.EndStartFailed, "start failed"},
		{bridge.EndDiscarded, "discarded"},
		{bridge.Outcome(9), "unknown outcome 9"},
		{bridge.AtStarting, "starting"},
		{bridge.AtGuest, "guest"},
		{bridge.AtHostCall, "host call"},
		{bridge.AtAtomicWait, "atomic wait"},
		{bridge.AtEnded, "ended"},
		{bridge.AtGrate, "grate"},
		{bridge.AtIdle, "idle"},
		{bridge.At(9), "unknown place 9"},
		{bridge.ExternFunc, "func"},
		{bridge.ExternGlobal, "global"},
		{bridge.ExternTable, "table"},
		{bridge.ExternMemory, "memory"},
		{bridge.ExternTag, "tag"},
		{bridge.ExternKind(9), "unknown kind 9"},
		{bridge.ThreadState{TID: 3, At: bridge.AtStarting}, "thread 3: starting"},
		{bridge.ThreadState{TID: 3, At: bridge.AtHostCall, Import: 7}, "thread 3: host call 7"},
		{bridge.ThreadState{TID: 3, At: bridge.AtHostCall, Import: 7, ImportName: "fd_read"}, "thread 3: host call fd_read"},
		{bridge.ThreadState{TID: 3, At: bridge.AtAtomicWait, Address: 255}, "thread 3: atomic wait at 0xff"},
		{
			bridge.ThreadState{TID: 3, At: bridge.AtGuest, Left: 1, Outcome: bridge.EndStopped, Function: "main"},
			"thread 3: guest; stopped in main",
		},
		{bridge.ThreadState{TID: 3, At: bridge.AtGuest, Left: 1, Outcome: bridge.EndQuit}, "thread 3: guest; quit"},
		{bridge.ThreadState{TID: 3, At: bridge.AtGrate, Address: 1 << 16, Call: 2}, "thread 3: a grate, for call 2"},
		{bridge.ThreadState{TID: 3, At: bridge.AtIdle, Worker: true}, "worker 3: idle"},
	} {
		equal(t, fmt.Sprintf("%#v", tt.value), tt.value.String(), tt.want)
	}
}
