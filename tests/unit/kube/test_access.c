/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kube/access.h"

#define PEM "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
#define PEM_B64 \
	"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo="

static char dir[64], config[128];

static void write_file(const char *name, const char *text)
{
	char path[128], beside[160];
	FILE *out;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	(void)snprintf(beside, sizeof(beside), "%s.new", path);
	out = fopen(beside, "we");
	assert_non_null(out);
	assert_true(fputs(text, out) >= 0);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(rename(beside, path), 0);
}

static int make_dir(void **state)
{
	(void)state;
	(void)strcpy(dir, "/tmp/tr-access-XXXXXX");
	assert_non_null(mkdtemp(dir));
	(void)snprintf(config, sizeof(config), "%s/config", dir);
	write_file("ca.crt", PEM);
	write_file("token", "abc\n");
	write_file("namespace", "gpu-system\n");
	write_file("not.pem", "hello");
	return 0;
}

static int remove_dir(void **state)
{
	char command[128];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

#define CLUSTER(more) \
	"clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443/', " more "}}]\n"
#define REST(user)                                                \
	"contexts: [{name: x, context: {cluster: c, user: u}}]\n" \
	"current-context: x\nusers: [{name: u, user: {" user "}}]\n"

static const struct config_case {
	const char *name, *text;
	int want;
	const char *says; /* in the sentence, or what server, token and namespace are */
} configs[] = {
	{ "config: a token", CLUSTER("certificate-authority: ca.crt") REST("token: t0k"), 0,
	  "https://10.0.0.1:6443 t0k default" },
	{ "config: a token from a file",
	  CLUSTER("certificate-authority-data: " PEM_B64)
		  REST("token: old, tokenFile: token"),
	  0, "https://10.0.0.1:6443 abc default" },
	{ "config: certificates inside",
	  CLUSTER("certificate-authority-data: " PEM_B64)
		  REST("client-certificate-data: " PEM_B64 ", client-key-data: " PEM_B64),
	  0, "https://10.0.0.1:6443 - default" },
	{ "config: certificates beside",
	  CLUSTER("insecure-skip-tls-verify: true")
		  REST("client-certificate: ca.crt, client-key: ca.crt"),
	  0, "https://10.0.0.1:6443 - default" },
	{ "config: as JSON with a namespace",
	  "{\"clusters\":[{\"name\":\"c\",\"cluster\":{\"server\":\"http://"
	  "127.0.0.1:8001\"}}],"
	  "\"contexts\":[{\"name\":\"x\",\"context\":{\"cluster\":\"c\",\"namespace\":"
	  "\"team\"}}],"
	  "\"current-context\":\"x\"}",
	  0, "http://127.0.0.1:8001 - team" },
	{ "config: exec", CLUSTER("") REST("exec: {command: aws, args: [eks]}"), -EINVAL,
	  "user \"u\" gets its credentials from the program \"aws\" (exec); programs are "
	  "not "
	  "started here: give a token" },
	{ "config: auth-provider", CLUSTER("") REST("auth-provider: {name: gcp}"), -EINVAL,
	  "auth-provider, which is not supported" },
	{ "config: impersonation", CLUSTER("") REST("token: t, as: root"), -EINVAL,
	  "impersonates another" },
	{ "config: a certificate without its key",
	  CLUSTER("") REST("client-certificate: ca.crt"), -EINVAL, "needs its key" },
	{ "config: not PEM", CLUSTER("certificate-authority: not.pem") REST("token: t"),
	  -EINVAL, "not.pem: not in PEM form" },
	{ "config: not base64",
	  CLUSTER("certificate-authority-data: '%%'") REST("token: t"), -EBADMSG,
	  "certificate-authority-data is not base64" },
	{ "config: a file that is not there",
	  CLUSTER("certificate-authority: none") REST("token: t"), -ENOENT,
	  "none: No such file" },
	{ "config: a token with a line end inside", CLUSTER("") REST("token: \"a\\nb\""),
	  -EINVAL, "blank or control" },
	{ "config: a number as token", CLUSTER("") REST("token: 1234"), -EBADMSG,
	  "token is not a text" },
	{ "config: no current context", CLUSTER("") "contexts: []\n", -EINVAL,
	  "no current-context" },
	{ "config: an unknown user",
	  CLUSTER("") "contexts: [{name: x, context: {cluster: c, user: z}}]\n"
		      "current-context: x\nusers: []\n",
	  -ENOENT, "no \"z\" among its users" },
	{ "config: an unknown cluster",
	  "contexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x\n", -ENOENT,
	  "no \"c\" among its clusters" },
	{ "config: credentials without TLS",
	  "clusters: [{name: c, cluster: {server: 'http://10.0.0.1'}}]\n" REST("token: t"),
	  -EINVAL, "it has no TLS" },
	{ "config: both an authority and none",
	  CLUSTER("certificate-authority: ca.crt, insecure-skip-tls-verify: true")
		  REST("token: t"),
	  -EINVAL, "which?" },
	{ "config: an address with a name and password",
	  "clusters: [{name: c, cluster: {server: 'https://a:b@10.0.0.1'}}]\n" REST(
		  "token: t"),
	  -EINVAL, "no such address" },
	{ "config: not YAML", "a: [", -EBADMSG, "line" },
	{ "config: a list", "[]", -EBADMSG, "not a kubeconfig" },
	{ "config: empty", "", -EBADMSG, "not a kubeconfig" },
};

static void test_config(void **state)
{
	const struct config_case *c = *state;
	struct tr_kube_access a = { 0 };
	struct tr_err err = { 0 };
	char got[256];

	write_file("config", c->text);
	if (tr_kube_access_kubeconfig(&a, config, NULL, &err) != c->want)
		fail_msg("%s", err.msg);
	assert_int_equal(err.code, -c->want);
	(void)snprintf(got, sizeof(got), "%s %s %s", a.server ? a.server : "-",
		       a.token.text ? a.token.text : "-", a.space ? a.space : "-");
	if (c->want == 0)
		assert_string_equal(got, c->says);
	else if (!strstr(err.msg, c->says))
		fail_msg("\"%s\" does not say \"%s\"", err.msg, c->says);
	tr_kube_access_free(&a);
}

static void test_in_cluster(void **state)
{
	struct tr_kube_access a = { 0 };
	struct tr_err err = { 0 };

	(void)state;
	assert_int_equal(tr_kube_access_in_cluster(&a, dir, "10.96.0.1", "443", &err), 0);
	assert_string_equal(a.server, "https://10.96.0.1:443");
	assert_string_equal(a.token.text, "abc");
	assert_string_equal(a.ca.text, PEM);
	assert_string_equal(a.space, "gpu-system");
	tr_kube_access_free(&a);
	assert_int_equal(tr_kube_access_in_cluster(&a, dir, "fd00::1", "443", &err), 0);
	assert_string_equal(a.server, "https://[fd00::1]:443");
	tr_kube_access_free(&a);
	assert_int_equal(tr_kube_access_in_cluster(&a, "/nowhere", "10.0.0.1", "1", &err),
			 -ENOENT);
	assert_non_null(strstr(err.msg, "the pod's service account: open /nowhere/token"));
	assert_int_equal(tr_kube_access_in_cluster(&a, dir, NULL, NULL, &err), -ENOENT);
}

static void test_refresh(void **state)
{
	struct tr_kube_access a = { 0 };

	(void)state;
	write_file("token", "one");
	assert_int_equal(tr_kube_access_in_cluster(&a, dir, "h", "1", NULL), 0);
	assert_false(tr_kube_access_refresh(&a));
	write_file("token", "two");
	assert_true(tr_kube_access_refresh(&a));
	assert_string_equal(a.token.text, "two");
	write_file("token", "two"); /* another file, the same token */
	assert_false(tr_kube_access_refresh(&a));
	write_file("token", "");
	assert_false(tr_kube_access_refresh(&a));
	assert_string_equal(a.token.text, "two");
	write_file("ca.crt", PEM PEM);
	assert_true(tr_kube_access_refresh(&a));
	assert_string_equal(a.ca.text, PEM PEM);
	tr_kube_access_free(&a);
	write_file("token", "abc");
}

/* Which of the three places is looked at. */
static void test_find(void **state)
{
	struct tr_kube_access a = { 0 };
	struct tr_err err = { 0 };

	(void)state;
	write_file("config", configs[0].text);
	(void)unsetenv("KUBERNETES_SERVICE_HOST");
	assert_int_equal(setenv("KUBECONFIG", config, 1), 0);
	assert_int_equal(tr_kube_access_find(&a, NULL, &err), 0);
	assert_string_equal(a.token.text, "t0k");
	tr_kube_access_free(&a);
	assert_int_equal(setenv("KUBECONFIG", "/a/config:/b/config", 1), 0);
	assert_int_equal(tr_kube_access_find(&a, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "only one is read"));
	(void)unsetenv("KUBECONFIG");
	assert_int_equal(setenv("HOME", "/nowhere", 1), 0);
	assert_int_equal(tr_kube_access_find(&a, NULL, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "/nowhere/.kube/config"));
	assert_int_equal(tr_kube_access_find(&a, config, &err), 0);
	tr_kube_access_free(&a);
}

int main(void)
{
	struct CMUnitTest tests[TR_COUNT(configs) + 3] = {
		cmocka_unit_test(test_in_cluster),
		cmocka_unit_test(test_refresh),
		cmocka_unit_test(test_find),
	};

	for (size_t i = 0; i < TR_COUNT(configs); i++)
		tests[i + 3] = (struct CMUnitTest){ configs[i].name, test_config, NULL,
						    NULL, (void *)(uintptr_t)&configs[i] };
	return cmocka_run_group_tests_name("kube access", tests, make_dir, remove_dir);
}
