package threei

import (
	"context"

	"github.com/lindbridge/lindbridge/abi"
)

// This file has 3i's own calls as guests make them. Where each argument stands is Lind's: the second halves of the pairs
// carry arguments too.

// registerHandlerCall is register_handler: (target, call), (unused, grate or a flag), (function index).
func (s *System) registerHandlerCall(t *Thread, a *Args) int64 {
	by := s.cages.LoadLow(uint64(t.Acting()))
	if by == nil {
		return abi.LindResult(abi.ELindESRCH)
	}
	target, call, grate, fn := abi.CageID(a.Val[0]), uint64(a.Cage[0]), a.Cage[1], a.Val[2]
	if call >= uint64(abi.MaxCall) || fn > maxFn {
		return abi.LindResult(abi.ELindAPIAborted)
	}
	n := abi.Call(call)
	if grate == abi.CageMatchAll {
		n, grate = allCalls, by.id
	}
	return lindResult(s.register(by, target, n, grate, uint32(fn)))
}

// copyHandlerTableCall is copy_handler_table_to_cage: (source, target).
func (s *System) copyHandlerTableCall(t *Thread, a *Args) int64 {
	by := s.cages.LoadLow(uint64(t.Acting()))
	if by == nil {
		return abi.LindResult(abi.ELindESRCH)
	}
	return lindResult(s.copyTable(by, abi.CageID(a.Val[0]), a.Cage[0]))
}

// copyDataCall is copy_data_between_cages: (source, its cage), (destination, its cage), (length), (kind).
func (s *System) copyDataCall(t *Thread, a *Args) int64 {
	d := Data{
		Src: a.Val[0], SrcCage: a.Cage[0], Dst: a.Val[1], DstCage: a.Cage[1],
		Len: a.Val[2], Kind: CopyKind(a.Val[3]),
	}
	if err := s.copyData(context.Background(), t, d); err != nil {
		return lindResult(err)
	}
	return int64(d.Dst)
}
