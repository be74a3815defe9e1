package rawposix

// NewWalkingHost is NewHost on a kernel without openat2.
func NewWalkingHost(cfg Config) (*Host, error) { return newHost(cfg, false) }

// HasOpenat2 reports whether paths are resolved by the kernel.
func (h *Host) HasOpenat2() bool { return h.openat2 }

// StatSize is the size of a guest's struct stat.
const StatSize = statSize

// Borrow makes a descriptor on the file behind hostFD, and tells whether it has a description of its own.
func Borrow(hostFD int) (fd int, own bool, err error) {
	fd, f, err := borrow(hostFD)
	return fd, err == nil && f.access == accessNonblock, err
}
