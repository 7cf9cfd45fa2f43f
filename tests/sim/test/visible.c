/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA_VISIBLE_DEVICES, on a machine of four devices. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define DEVICES 4

static char names[DEVICES][41];

static void name_of(CUdevice dev, char out[41])
{
	CUuuid id;
	char *end = out + sprintf(out, "GPU");

	SUCCEEDS(cuDeviceGetUuid(&id, dev));
	for (int i = 0; i < 16; i++)
		end += sprintf(end, "%s%02x",
			       i == 0 || i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
			       (unsigned char)id.bytes[i]);
}

/* WANT: which of the machine's devices, as digits; "" for cuInit's refusal. */
static void expect(const char *list, const char *want)
{
	pid_t child = fork();
	int status, count = 0;
	char name[41];

	CHECK(child >= 0);
	if (child > 0) {
		CHECK(waitpid(child, &status, 0) == child);
		if (status != 0)
			fprintf(stderr, "list \"%s\" should give \"%s\"\n", list, want);
		CHECK(status == 0);
		return;
	}
	setenv("CUDA_VISIBLE_DEVICES", list, 1);
	if (!*want) {
		ANSWERS(CUDA_ERROR_NO_DEVICE, cuInit(0));
		_exit(0);
	}
	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDeviceGetCount(&count));
	CHECK(count == (int)strlen(want));
	for (int i = 0; i < count; i++) {
		name_of(i, name);
		CHECK(strcmp(name, names[want[i] - '0']) == 0);
	}
	_exit(0);
}

/* The machine's own order, told by a child: this process must stay without a driver. */
static void read_names(void)
{
	int pipes[2];
	int status;
	pid_t child;

	CHECK(pipe(pipes) == 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		SUCCEEDS(cuInit(0));
		for (int i = 0; i < DEVICES; i++)
			name_of(i, names[i]);
		_exit(write(pipes[1], names, sizeof(names)) != (ssize_t)sizeof(names));
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(read(pipes[0], names, sizeof(names)) == (ssize_t)sizeof(names));
	close(pipes[0]);
	close(pipes[1]);
}

int main(void)
{
	char text[256];

	setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
	unsetenv("CUDA_VISIBLE_DEVICES");
	read_names();
	CHECK(strcmp(names[0], names[1]) != 0);
	expect("0,1,2,3", "0123");
	expect("3,1", "31");
	expect(" 2 , 0", "20");
	expect("2", "2");
	expect("1,9,0", "1");
	expect("0,-1,1", "0");
	expect("0,x,1", "0");
	expect("1gpu,2", "12");
	expect("0,1,0", "");
	expect("", "");
	expect("-1", "");
	expect("4", "");
	expect("none", "");
	expect("MIG-1234", "");
	expect(names[2], "2");
	snprintf(text, sizeof(text), "%s,%s", names[3], names[0]);
	expect(text, "30");
	snprintf(text, sizeof(text), "%.12s,%.12s", names[1], names[0]);
	expect(text, "10");
	snprintf(text, sizeof(text), "%s,GPU-ffffffff-0000,%s", names[3], names[0]);
	expect(text, "3");
	snprintf(text, sizeof(text), "%s,0", names[3]);
	expect(text, "3");
	snprintf(text, sizeof(text), "%s,%s", names[3], names[3]);
	expect(text, "");
	expect("GPU-", "");
	return 0;
}
