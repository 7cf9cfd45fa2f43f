/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/inject/driver.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "deviceplugin/inject/image.h"
#include "deviceplugin/inject/libraries.h"
#include "deviceplugin/inject/root.h"

/* Where a glibc looks after its cache, which a container's image brought along and which does not know our
 * files: Debian's and its children's, everybody else's. */
static const char *const container_folders[] = { "/usr/lib/" TR_MULTIARCH,
						 TR_DRIVER_FOLDER };

static const char *const programs[] = {
	"nvidia-smi",
	"nvidia-debugdump",
	"nvidia-persistenced",
	"nvidia-cuda-mps-control",
	"nvidia-cuda-mps-server",
	"nvidia-imex",
	"nvidia-imex-ctl",
};
static const char *const program_folders[] = { "/usr/bin", "/usr/sbin",      "/bin",
					       "/sbin",    "/usr/local/bin", "/opt/bin" };

static const char *const shared_nodes[] = { "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools",
					    "nvidia-modeset" };

#define COUNT(rows) (sizeof(rows) / sizeof(*(rows)))

struct finder {
	char *root, *host_root; /* "" is "/"; no slash at the end */
	char *dev, *host_dev;
	const char *proc;
	struct tr_driver_files *out;
};

static char *root_of(const char *path, const char *otherwise)
{
	char *root = tr_xstrdup(path ? path : otherwise ? otherwise : "");
	size_t n = strlen(root);

	while (n > 0 && root[n - 1] == '/')
		root[--n] = '\0';
	return root;
}

/* The file PATH of the root, as the container's file CONTAINER, which is taken over. */
static void add_mount(const struct finder *f, const char *path, char *container)
{
	struct tr_driver_files *out = f->out;

	out->mounts = tr_xrealloc(out->mounts,
				  (out->mount_count + 1) * sizeof(*out->mounts));
	out->mounts[out->mount_count++] = (struct tr_driver_mount){
		tr_xprintf("%s%s", f->host_root, path), container
	};
}

static int add_libraries(const struct finder *f, struct tr_err *err)
{
	tr_autofree char *path = tr_xprintf("%s/driver/nvidia/version", f->proc);
	char text[1024], version[TR_DRIVER_VERSION] = "";
	struct tr_libraries libraries;
	ssize_t n = tr_proc_read(path, text, sizeof(text));
	int r;

	/* Not to be read: an agent that is not shown it. Which libcuda then is not to be doubted. */
	if (n >= 0 && tr_driver_version_parse(text, version) < 0)
		return tr_fail(err, EBADMSG, "%s does not say which version it is", path);
	r = tr_libraries_find(f->root, version, &libraries, err);
	if (r == 0)
		memcpy(f->out->version, libraries.version, sizeof(libraries.version));
	for (size_t k = 0; k < COUNT(container_folders); k++)
		for (size_t i = 0; i < libraries.count; i++)
			add_mount(f, libraries.at[i].path,
				  tr_xprintf("%s/%s", container_folders[k],
					     libraries.at[i].name));
	tr_libraries_free(&libraries);
	return r;
}

static bool is_program(const struct finder *f, const char *path)
{
	tr_autofree char *full = tr_xprintf("%s%s", f->root, path);
	struct stat st;

	return stat(full, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111);
}

static void add_program(const struct finder *f, const char *name)
{
	for (size_t i = 0; i < COUNT(program_folders); i++) {
		tr_autofree char *path = tr_xprintf("%s/%s", program_folders[i], name);
		char real[PATH_MAX];

		if (tr_root_resolve(f->root, path, real) == 0 && is_program(f, real)) {
			add_mount(f, real, tr_xprintf("/usr/bin/%s", name));
			return;
		}
	}
}

static int is_gsp(const struct dirent *entry)
{
	return fnmatch("gsp*.bin", entry->d_name, 0) == 0;
}

static void add_firmware(const struct finder *f)
{
	tr_autofree char *folder = tr_xprintf("/lib/firmware/nvidia/%s", f->out->version);
	tr_autofree char *full = NULL;
	char real[PATH_MAX], file[PATH_MAX];
	struct dirent **list = NULL;
	int n;

	if (tr_root_resolve(f->root, folder, real) < 0)
		return;
	full = tr_xprintf("%s%s", f->root, real);
	n = scandir(full, &list, is_gsp, alphasort);
	for (int i = 0; i < n; i++) {
		tr_autofree char *path = tr_xprintf("%s/%s", real, list[i]->d_name);

		if (tr_root_resolve(f->root, path, file) == 0)
			add_mount(f, file, tr_xprintf("%s/%s", folder, list[i]->d_name));
		free(list[i]);
	}
	free(list);
}

static int add_nodes(const struct finder *f, struct tr_err *err)
{
	struct tr_driver_files *out = f->out;

	out->host_dev = tr_xprintf("%s/dev", f->host_dev);
	out->dev = tr_xprintf("%s/dev", f->dev);
	for (size_t i = 0; i < COUNT(shared_nodes); i++) {
		tr_autofree char *path = tr_xprintf("%s/%s", out->dev, shared_nodes[i]);
		struct stat st;

		if (stat(path, &st) < 0 || !S_ISCHR(st.st_mode))
			continue;
		out->nodes = tr_xrealloc(out->nodes,
					 (out->node_count + 1) * sizeof(*out->nodes));
		out->nodes[out->node_count++] = (struct tr_driver_node){
			tr_xprintf("%s/%s", out->host_dev, shared_nodes[i]),
			tr_xprintf("/dev/%s", shared_nodes[i])
		};
	}
	if (out->node_count == 0 || strcmp(out->nodes[0].container, "/dev/nvidiactl") != 0)
		return tr_fail(
			err, ENOENT,
			"no device node %s/dev/nvidiactl: is the kernel module loaded "
			"(nvidia-modprobe)?",
			f->dev);
	return 0;
}

int tr_driver_find(const struct tr_driver_where *where, struct tr_driver_files *out,
		   struct tr_err *err)
{
	tr_autofree char *root = root_of(where->root, NULL);
	tr_autofree char *host_root = root_of(where->host_root, where->root);
	tr_autofree char *dev = root_of(where->dev, NULL);
	tr_autofree char *host_dev = root_of(where->host_dev, where->dev);
	struct finder f = { root,
			    host_root,
			    dev,
			    host_dev,
			    where->proc && *where->proc ? where->proc : "/proc",
			    out };
	int r;

	memset(out, 0, sizeof(*out));
	r = add_libraries(&f, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < COUNT(programs); i++)
		add_program(&f, programs[i]);
	add_firmware(&f);
	return add_nodes(&f, err);
}

void tr_driver_free(struct tr_driver_files *files)
{
	for (size_t i = 0; i < files->mount_count; i++) {
		free(files->mounts[i].host);
		free(files->mounts[i].container);
	}
	for (size_t i = 0; i < files->node_count; i++) {
		free(files->nodes[i].host);
		free(files->nodes[i].container);
	}
	free(files->mounts);
	free(files->nodes);
	free(files->host_dev);
	free(files->dev);
	memset(files, 0, sizeof(*files));
}
