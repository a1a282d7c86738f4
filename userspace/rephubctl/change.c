// SPDX-License-Identifier: GPL-2.0-or-later
/* What the hub keeps, and no longer. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/parse.h"
#include "../common/usage.h"
#include "rephubctl.h"

static int tell(const struct hub *h, struct json_object *o)
{
	static const char as_for_all[] = ", as for all groups that nothing else was said of";
	char bytes[HUMAN_MAX], age[HUMAN_MAX];

	if (h->opt->json)
		show_json(o);
	else
		printf("%s: of the journal is kept what fits into %s and came within %s%s\n%s: when the disk is full: %s%s\n",
		       h->opt->group,
		       get(o, "keep-bytes") ? human_size(bytes, get_number(o, "keep-bytes")) : "any size",
		       get(o, "keep-seconds") ? human_duration(age, (uint64_t)(get_seconds(o, "keep-seconds") * 1e9)) :
		       "any time", get_bool(o, "own") ? "" : as_for_all, h->opt->group, get_text(o, "when-full"),
		       get_bool(o, "own-when-full") ? "" : as_for_all);
	json_object_put(o);
	return EXIT_SUCCESS;
}

int do_retention(struct hub *h)
{
	struct json_object *arguments = json_object_new_object(), *result;
	const struct options *opt = h->opt;
	uint64_t n = 0;

	put_text(arguments, "group", opt->group);
	if (opt->age && parse_duration(opt->age, &n))
		put_number(arguments, "age", n / NSEC_PER_SEC);
	if (opt->bytes && parse_size(opt->bytes, &n))
		put_number(arguments, "bytes", n);
	if (opt->when_full)
		put_text(arguments, "when-full", opt->when_full);
	if (opt->to_default)
		put_bool(arguments, "default", true);
	result = hub_ask(h, opt->given ? "set-retention" : "query-retention", arguments);
	return result ? tell(h, result) : EXIT_FAILURE;
}

/* The object of the group, of query-groups; NULL: there is none. */
static struct json_object *find_group(struct json_object *list, const char *name)
{
	size_t i;

	for (i = 0; i < length_of(list); i++)
		if (!strcmp(get_text(json_object_array_get_idx(list, i), "group"), name))
			return json_object_array_get_idx(list, i);
	return NULL;
}

/* Who is asked has to type the name. Return whether it was. */
static bool confirmed(struct json_object *group)
{
	char journal[HUMAN_MAX], base[HUMAN_MAX], oldest[WHEN_MAX], line[64];
	const char *since = when(oldest, group, "oldest-time"), *name = get_text(group, "group");

	printf("Group %s has history%s%s: %s of journal, %s of base. All of it is lost for good.\n", name,
	       since ? " since " : "", since ? since : "", human_size(journal, get_number(group, "journal-bytes")),
	       human_size(base, get_number(group, "base-bytes")));
	printf("Type its name to have it removed: ");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return false;
	line[strcspn(line, "\n")] = '\0';
	return !strcmp(line, name);
}

int do_forget(struct hub *h)
{
	struct json_object *arguments = json_object_new_object(), *list, *group;
	const char *name = h->opt->group;
	bool ok;

	if (!h->opt->yes && !isatty(STDIN_FILENO)) {
		fprintf(stderr, "rephubctl: forget: there is nobody to ask: expected --yes, or a terminal\n");
		json_object_put(arguments);
		return EXIT_USAGE;
	}
	if (!h->opt->yes) {
		list = hub_ask(h, "query-groups", NULL);
		group = find_group(list, name);
		/* If there is none, that is said below. */
		ok = list && (!group || confirmed(group));
		json_object_put(list);
		if (!ok) {
			fprintf(stderr, "rephubctl: group %s stays\n", name);
			json_object_put(arguments);
			return EXIT_FAILURE;
		}
	}
	put_text(arguments, "group", name);
	list = hub_ask(h, "forget", arguments);
	if (!list)
		return EXIT_FAILURE;
	if (h->opt->json)
		show_json(list);
	json_object_put(list);
	return EXIT_SUCCESS;
}
