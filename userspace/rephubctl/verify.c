// SPDX-License-Identifier: GPL-2.0-or-later
/* Whether volumes are what their source has. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../common/parse.h"
#include "rephubctl.h"

/* The group and perhaps the volume that were said. */
static struct json_object *whose(const struct hub *h, char *volume)
{
	struct json_object *arguments = json_object_new_object();
	const char *slash = strchr(h->opt->group, '/');
	char group[128];

	snprintf(group, sizeof(group), "%.*s", slash ? (int)(slash - h->opt->group) : (int)strlen(h->opt->group), h->opt->group);
	snprintf(volume, sizeof(group), "%s", slash ? slash + 1 : "");
	put_text(arguments, "group", group);
	return arguments;
}

static bool is_over(struct json_object *verify)
{
	return !strcmp(get_text(verify, "state"), "done") || !strcmp(get_text(verify, "state"), "stopped");
}

static void tell(struct json_object *o, struct json_object *verify)
{
	char differed[HUMAN_MAX], rest[HUMAN_MAX], skipped[HUMAN_MAX];

	printf("%s: %s", get_text(o, "volume"), get_text(verify, "state"));
	if (get_number(verify, "differed"))
		printf(", %s differed and were sent again", human_size(differed, get_number(verify, "differed")));
	else
		printf(", nothing differed");
	if (get_number(verify, "unrepaired"))
		printf(", %s differ still", human_size(rest, get_number(verify, "unrepaired")));
	if (get_number(verify, "skipped"))
		printf(", %s could not be read at the source", human_size(skipped, get_number(verify, "skipped")));
	printf("\n");
}

/* Look once. Return whether all of it is over; @status then says whether it is well, and all was told. */
static bool look(struct hub *h, const char *group, const char *volume, bool last, int *status)
{
	struct json_object *arguments = json_object_new_object(), *list, *o, *verify;
	bool over = true;
	size_t i;

	put_text(arguments, "group", group);
	list = hub_ask(h, "query-volumes", arguments);
	*status = list ? EXIT_SUCCESS : EXIT_FAILURE;
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		verify = get(o, "verify");
		if (*volume ? strcmp(get_text(o, "volume"), volume) : !get(verify, "wanted") || get_bool(o, "removed"))
			continue;
		over &= is_over(verify);
		if (strcmp(get_text(verify, "state"), "done") || get_number(verify, "unrepaired") || get_number(verify, "skipped"))
			*status = EXIT_FAILURE;
	}
	for (i = 0; (over || last) && i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		verify = get(o, "verify");
		if (*volume ? !strcmp(get_text(o, "volume"), volume) : get(verify, "wanted") && !get_bool(o, "removed"))
			tell(o, verify);
	}
	over |= !list;
	json_object_put(list);
	return over;
}

/* Have volumes compared; with --wait until they were, or no longer than that. */
int do_verify(struct hub *h)
{
	const struct timespec pause = { 0, 200 * 1000000 };
	const struct options *opt = h->opt;
	struct json_object *arguments, *result;
	uint64_t waited = 0, n = 0;
	char volume[128], group[128];
	int status;

	arguments = whose(h, volume);
	snprintf(group, sizeof(group), "%s", get_text(arguments, "group"));
	if (*volume)
		put_text(arguments, "volume", volume);
	if (opt->bytes && parse_size(opt->bytes, &n))
		put_number(arguments, "rate", n);
	result = hub_ask(h, opt->stop ? "stop-verify" : "verify", arguments);
	if (!result)
		return EXIT_FAILURE;
	json_object_put(result);
	if (!opt->wait) {
		if (!opt->json && !opt->stop)
			printf("%s is compared with its source, beside its writes: rephubctl volumes %s shows how far it is\n", opt->group,
			       group);
		return EXIT_SUCCESS;
	}
	while (!look(h, group, volume, waited >= opt->wait, &status)) {
		if (waited >= opt->wait)
			return EXIT_FAILURE;
		nanosleep(&pause, NULL);
		waited += (uint64_t)pause.tv_nsec;
	}
	return status;
}
