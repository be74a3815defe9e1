package bridge

import "fmt"

// Fault is a failure point of the shim: a place where a shim that was built with faults (`make shim-faults`) can be told
// to fail, or to be late, as the system or its scheduler could on a bad day.
type Fault struct {
	// Name is what SetFault calls it: "thread-new".
	Name string
	// CanFail says whether it can fail. Every point can be late.
	CanFail bool
	// Fired is how often it has failed or been late since the process began.
	Fired uint64
}

// SetFault tells a failure point of the shim what to do each time that it is passed, from here on. The points are the
// shim's, and so common to all engines of the process that have the same ShimPath. It is for tests.
//
// actions are "[seed=N;]" and then terms joined by "->", of which the first that applies is what happens; nothing does if
// none applies. A term is "[P%][N*]action": it applies with the probability P, 100 if it is not said, and at most N times;
// the seed fixes the dice. An action is "off", "fail", "yield", "sleep(Nus)" or "sleep(Nms)", of at most a second. "2*off->
// 1*fail" fails the third time, once. Empty text is "off". The name "*" is all points, and can be told "off" alone.
//
// # Errors
//
//   - ErrUnsupported: the shim was built without faults, as it is unless `make shim-faults` built it
//   - ErrInvalid: there is no such point, and the message names all; or it cannot do that, and the message says why
//   - ErrHandle: the engine was closed
func (e *Engine) SetFault(name, actions string) error {
	if _, err := e.open("set fault"); err != nil {
		return err
	}
	if err := e.lib.callFaultSet(name, actions); err != nil {
		return fmt.Errorf("set fault: %w", err)
	}
	return nil
}

// Faults lists the shim's failure points, and whether they can be used: false unless the shim was built with faults.
func (e *Engine) Faults() (list []Fault, built bool) {
	var c faultABI
	for i := uint64(0); e.lib.callFaultInfo(i, &c) == nil; i++ {
		list = append(list, Fault{Name: text(c.name, c.nameBytes), CanFail: c.fails != 0, Fired: c.fired})
		built = c.built != 0
	}
	return list, built
}

// FaultNames are the names of Faults.
func (e *Engine) FaultNames() []string {
	list, _ := e.Faults()
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = f.Name
	}
	return names
}
