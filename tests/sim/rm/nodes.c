/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rm/rm.h"

/*
 * The file system and the control group decide about a device node before the kernel looks
 * for a driver behind its number: where there is none, ENXIO says that they had nothing
 * against it.
 */
static bool can_open(const char *path)
{
	struct statx st; /* stat of this glibc is newer than what the library may need */
	int fd;

	if (statx(AT_FDCWD, path, 0, STATX_TYPE, &st) != 0 || !S_ISCHR(st.stx_mode))
		return false;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno == ENXIO;
	close(fd);
	return true;
}

int rm_allowed(uint64_t *devices)
{
	const struct rm_machine *machine = rm_machine();
	char path[32];

	*devices = 0;
	if (!machine)
		return -ENODEV;
	if (machine->needs_nodes && !can_open("/dev/nvidiactl"))
		return -ENODEV;
	for (uint32_t i = 0; i < machine->device_count; i++) {
		(void)snprintf(path, sizeof(path), "/dev/nvidia%u",
			       machine->devices[i].minor);
		if (!machine->needs_nodes || can_open(path))
			*devices |= UINT64_C(1) << i;
	}
	return 0;
}
