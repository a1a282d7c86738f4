// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * URI templates.
 *
 *	nbd://HOST[:PORT]/EXPORT	nbd+unix:///EXPORT?socket=PATH
 *	nbds:// and nbds+unix://	the same over TLS
 *	rephub://HOST[:PORT]		a rephub, which takes the whole group
 *	rephub+unix:///?socket=PATH
 *	rephubs:// and rephubs+unix://	the same over TLS
 *
 * with %g for the group, %v for the volume and %% for a percent sign. A rephub
 * is spoken to over NBD as well: the group's stream goes to the export
 * log/GROUP.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "uri.h"

/* @rest: what stands behind the prefix; @nbd: the prefix that libnbd knows, of a rephub's */
static const struct scheme {
	const char *prefix;
	const char *rest;
	const char *nbd;
	bool unix_socket;
	bool tls;
} schemes[] = {
	{ "nbd://",		"HOST[:PORT]/EXPORT",		NULL,		false,	false },
	{ "nbds://",		"HOST[:PORT]/EXPORT",		NULL,		false,	true },
	{ "nbd+unix://",	"/EXPORT?socket=PATH",		NULL,		true,	false },
	{ "nbds+unix://",	"/EXPORT?socket=PATH",		NULL,		true,	true },
	{ "rephub://",		"HOST[:PORT]",			"nbd://",	false,	false },
	{ "rephubs://",		"HOST[:PORT]",			"nbds://",	false,	true },
	{ "rephub+unix://",	"/?socket=PATH",		"nbd+unix://",	true,	false },
	{ "rephubs+unix://",	"/?socket=PATH",		"nbds+unix://",	true,	true },
};

/* The parts of a URI; each points into it. */
struct parts {
	const struct scheme *scheme;
	const char *host;
	int host_len;
	unsigned int port;
	const char *path;	/* behind the slash */
	int path_len;
	const char *socket;	/* NULL without one */
	int socket_len;
};

static __attribute__((format(printf, 2, 3)))
bool fail(char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, URI_ERROR_MAX, fmt, ap);
	va_end(ap);
	return false;
}

/**
 * uri_name_ok - whether a text can be the name of a group or a volume
 * @name: the text
 */
bool uri_name_ok(const char *name)
{
	size_t len = strlen(name);

	return len >= 1 && len <= REPAGENT_NAME_MAX && name[0] != '.' && name[0] != '-' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			    "0123456789._-") == len;
}

static bool split_host(const char *uri, struct parts *p, const char *auth,
		       const char *end, char *error)
{
	const char *at = memchr(auth, '@', (size_t)(end - auth));
	const char *colon;
	unsigned long port = 10809;
	char *stop;

	if (at && p->scheme->nbd)
		return fail(error, "'%.*s' in '%s': expected no user; a rephub knows the host by its certificate",
			    (int)(at + 1 - auth), auth, uri);
	p->host = at ? at + 1 : auth;
	colon = p->host;
	if (*colon == '[') {
		colon = memchr(colon, ']', (size_t)(end - colon));
		if (!colon)
			return fail(error, "'%s': the bracket before the address is never closed", uri);
		colon++;
	} else {
		while (colon < end && *colon != ':')
			colon++;
	}
	p->host_len = (int)(colon - p->host);
	if (!p->host_len)
		return fail(error, "'%s' names no host: expected %s%s",
			    uri, p->scheme->prefix, p->scheme->rest);
	if (colon < end) {
		if (*colon == ':' && isdigit((unsigned char)colon[1]))
			port = strtoul(colon + 1, &stop, 10);
		else
			stop = NULL;
		if (stop != end || port < 1 || port > 65535)
			return fail(error, "'%.*s' in '%s' is no port: expected a number from 1 to 65535",
				    (int)(end - colon), colon, uri);
	}
	p->port = (unsigned int)port;
	return true;
}

static bool split(const char *uri, struct parts *p, char *error)
{
	const char *auth, *end, *query;
	size_t i;

	memset(p, 0, sizeof(*p));
	for (i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (!strncasecmp(uri, schemes[i].prefix, strlen(schemes[i].prefix)))
			p->scheme = &schemes[i];
	if (!p->scheme)
		return fail(error, "'%s' is no tap: expected nbd://HOST[:PORT]/EXPORT, "
			    "nbd+unix:///EXPORT?socket=PATH, nbds:// or nbds+unix://, or of a rephub "
			    "rephub://HOST[:PORT], rephubs:// or rephub+unix:///?socket=PATH", uri);
	auth = uri + strlen(p->scheme->prefix);
	end = auth + strcspn(auth, "/?#");
	query = auth + strcspn(auth, "?#");
	if (strchr(auth, '#'))
		return fail(error, "'#' in '%s': an NBD URI has no fragment", uri);
	p->path = *end == '/' ? end + 1 : end;
	p->path_len = (int)(query - p->path);
	if (p->scheme->nbd && p->path_len)
		return fail(error, "'%.*s' in '%s': a rephub takes the stream of the whole group and has no export to "
			    "be named; expected %s%s", p->path_len, p->path, uri, p->scheme->prefix,
			    p->scheme->rest);

	for (; *query; query += strcspn(query, "&")) {
		query++;
		if (!strncmp(query, "socket=", 7)) {
			p->socket = query + 7;
			p->socket_len = (int)strcspn(p->socket, "&");
		} else if (!strncmp(query, "tls-certificates=", 17)) {
			return fail(error, "'%.*s' in '%s': the certificates are not part of a tap; expected --tls-certificates DIR, "
				    "or a line tls-certificates = DIR of the configuration", (int)strcspn(query, "&"), query, uri);
		} else {
			return fail(error, "'%.*s' in '%s' is unknown: expected socket=PATH",
				    (int)strcspn(query, "&"), query, uri);
		}
	}
	if (!p->scheme->unix_socket) {
		if (p->socket)
			return fail(error, "'%s' names a host and a socket: expected %s for a socket", uri,
				    p->scheme->nbd ? "rephub+unix://" : "nbd+unix://");
		return split_host(uri, p, auth, end, error);
	}
	if (end != auth)
		return fail(error, "'%.*s' in '%s': a Unix socket has no host; expected %s%s",
			    (int)(end - auth), auth, uri, p->scheme->prefix, p->scheme->rest);
	if (!p->socket_len || p->socket[0] != '/')
		return fail(error, "'%s' lacks a socket: expected %s%.*s/ABSOLUTE/PATH", uri, p->scheme->prefix,
			    (int)(strlen(p->scheme->rest) - strlen("PATH")), p->scheme->rest);
	return true;
}

/* A name stands for itself in a URI, or as %XX. */
static size_t put_name(char *out, size_t room, const char *name)
{
	size_t n = 0;

	for (; *name && n + 4 <= room; name++) {
		if (isalnum((unsigned char)*name) || strchr("._-", *name))
			out[n++] = *name;
		else
			n += (size_t)sprintf(out + n, "%%%02X", (unsigned char)*name);
	}
	return *name ? room : n;
}

static bool expand(const char *template, const char *group, const char *volume,
		   char *uri, char *error)
{
	size_t n = 0;
	const char *s;

	for (s = template; *s && n + 1 < URI_MAX; s++) {
		if (*s != '%') {
			uri[n++] = *s;
			continue;
		}
		switch (*++s) {
		case 'g':
			n += put_name(uri + n, URI_MAX - n, group);
			break;
		case 'v':
			n += put_name(uri + n, URI_MAX - n, volume);
			break;
		case '%':
			uri[n++] = '%';
			break;
		default:
			return fail(error, "'%%%.1s' in '%s' is unknown: expected %%g (the group), "
				    "%%v (the volume) or %%%% (a percent sign)", s, template);
		}
	}
	if (*s || n >= URI_MAX)
		return fail(error, "'%.40s...' is too long: expected at most %d bytes",
			    template, URI_MAX - 1);
	uri[n] = '\0';
	return true;
}

/**
 * uri_check - whether a template can become a URI
 * @template: the text, with %g and %v
 * @error: URI_ERROR_MAX bytes for a sentence
 *
 * Return: whether it is understood; else @error says what is wrong with it.
 */
bool uri_check(const char *template, char *error)
{
	char probe[URI_MAX];
	struct parts p;

	if (!expand(template, "group", "volume", probe, error) || !split(probe, &p, error))
		return false;
	if (p.scheme->nbd && strstr(template, "%v"))
		return fail(error, "'%%v' in '%s': a rephub takes the stream of the whole group; expected %s%s",
			    template, p.scheme->prefix, p.scheme->rest);
	return true;
}

/**
 * uri_is_rephub - whether a template leads to a rephub
 * @template: what uri_check() accepted, or NULL
 */
bool uri_is_rephub(const char *template)
{
	return template && !strncasecmp(template, "rephub", strlen("rephub"));
}

/**
 * uri_map_check - whether the taps go together
 * @map: the taps
 * @error: URI_ERROR_MAX bytes for a sentence
 *
 * Return: false if some go to a rephub, and @error says why that cannot be.
 */
bool uri_map_check(const struct uri_map *map, char *error)
{
	unsigned int i;

	for (i = 0; i < map->nr; i++) {
		if (uri_is_rephub(map->own[i].uri))
			return fail(error, "'%s' is of volume %s alone: a rephub takes the stream of the whole group; "
				    "expected it without VOLUME=", map->own[i].uri, map->own[i].volume);
		if (uri_is_rephub(map->all))
			return fail(error, "'%s' is of volume %s alone, and the whole group goes to the rephub '%s'; "
				    "expected one of them", map->own[i].uri, map->own[i].volume, map->all);
	}
	return true;
}

/**
 * uri_add_tap - take one --tap option
 * @map: the options so far
 * @arg: URI, or VOLUME=URI
 * @error: URI_ERROR_MAX bytes for a sentence
 *
 * Return: whether it is understood; else @error says what is wrong with it.
 */
bool uri_add_tap(struct uri_map *map, const char *arg, char *error)
{
	size_t len = strcspn(arg, "=:/?");
	const char *template = arg;
	char name[REPAGENT_NAME_MAX + 1] = "";
	const char *there;

	if (arg[len] == '=') {
		snprintf(name, sizeof(name), "%.*s", (int)len, arg);
		if (len > REPAGENT_NAME_MAX || !uri_name_ok(name))
			return fail(error, "'%.*s' in '%s' is no volume: expected URI or VOLUME=URI",
				    (int)len, arg, arg);
		template = arg + len + 1;
	}
	if (!uri_check(template, error))
		return false;
	if (name[0] && uri_is_rephub(template))
		return fail(error, "'%s' gives volume %s a rephub of its own, which takes the stream of the whole group: "
			    "expected %s, for all volumes", arg, name, template);
	there = uri_tap_of(map, name[0] ? name : NULL);
	if (there && !name[0])
		return fail(error, "'%s': there is a tap for all volumes already ('%s'); "
			    "expected VOLUME=URI", arg, there);
	if (there)
		return fail(error, "'%s': volume %s has a tap already ('%s')", arg, name, there);
	return uri_set_tap(map, name[0] ? name : NULL, template, error);
}

/**
 * uri_tap_of - the tap that was given for a volume, or for all
 * @map: the taps
 * @volume: its name, or NULL for that of all volumes without their own
 *
 * Return: the template, or NULL.
 */
const char *uri_tap_of(const struct uri_map *map, const char *volume)
{
	unsigned int i;

	if (!volume)
		return map->all;
	for (i = 0; i < map->nr; i++)
		if (!strcmp(map->own[i].volume, volume))
			return map->own[i].uri;
	return NULL;
}

/**
 * uri_set_tap - give a volume, or all, a tap, or take it away
 * @map: the taps
 * @volume: its name, which uri_name_ok() accepted, or NULL for all without their own
 * @template: what uri_check() accepted, which is copied; NULL takes the tap away
 * @error: URI_ERROR_MAX bytes for a sentence
 *
 * Return: whether it could be done.
 */
bool uri_set_tap(struct uri_map *map, const char *volume, const char *template, char *error)
{
	char *copy = template ? strdup(template) : NULL;
	unsigned int i;

	if (template && !copy)
		return fail(error, "'%s': out of memory", template);
	if (!volume) {
		free(map->all);
		map->all = copy;
		return true;
	}
	for (i = 0; i < map->nr; i++)
		if (!strcmp(map->own[i].volume, volume))
			break;
	if (i == map->nr && !copy)
		return true;
	if (i == REPAGENT_MAX_VOLUMES) {
		free(copy);
		return fail(error, "'%s': expected at most %d volumes", template,
			    REPAGENT_MAX_VOLUMES);
	}
	if (i == map->nr) {
		snprintf(map->own[i].volume, sizeof(map->own[i].volume), "%s", volume);
		map->own[map->nr++].uri = NULL;
	}
	free(map->own[i].uri);
	map->own[i].uri = copy;
	if (!copy)
		map->own[i] = map->own[--map->nr];
	return true;
}

/**
 * uri_for_volume - where a volume is sent to
 * @map: the --tap options
 * @group: its group
 * @volume: its name
 * @uri: URI_MAX bytes for the result
 * @error: URI_ERROR_MAX bytes for a sentence
 *
 * Return: whether there is such a place; else @error says why not.
 */
bool uri_for_volume(const struct uri_map *map, const char *group,
		    const char *volume, char *uri, char *error)
{
	const char *template = uri_tap_of(map, volume);
	struct parts p;

	if (!template)
		template = map->all;
	if (!template)
		return fail(error, "volume %s has no tap: expected --tap %s=URI", volume, volume);
	return expand(template, group, volume, uri, error) && split(uri, &p, error);
}

/**
 * uri_for_hub - where an export of the group's rephub is
 * @map: the taps, of which that of all volumes leads to a rephub
 * @group: its name
 * @kind: "log" or "live"
 * @volume: of the export, at most VOLUME_NAME_MAX bytes with what else its name has; or NULL
 * @uri: URI_MAX bytes for the URI as it was given
 * @nbd: URI_MAX bytes for the one that an NBD client understands
 * @error: URI_ERROR_MAX bytes for a sentence
 *
 * Return: whether there is such a place; else @error says why not.
 */
bool uri_for_hub(const struct uri_map *map, const char *group, const char *kind, const char *volume,
		 char *uri, char *nbd, char *error)
{
	char name[3 * (REPAGENT_NAME_MAX + VOLUME_NAME_MAX) + 16];
	struct parts p;
	size_t len;
	int n;

	if (!expand(map->all, group, "", uri, error) || !split(uri, &p, error))
		return false;
	len = (size_t)snprintf(name, sizeof(name), "%s/", kind);
	len += put_name(name + len, sizeof(name) - 1 - len, group);
	if (volume) {
		name[len++] = '/';
		len += put_name(name + len, sizeof(name) - 1 - len, volume);
	}
	name[len] = '\0';
	if (p.scheme->unix_socket)
		n = snprintf(nbd, URI_MAX, "%s/%s?socket=%.*s", p.scheme->nbd, name, p.socket_len, p.socket);
	else
		n = snprintf(nbd, URI_MAX, "%s%.*s:%u/%s", p.scheme->nbd, p.host_len, p.host, p.port, name);
	return n < URI_MAX || fail(error, "'%.40s...' is too long: expected at most %zu bytes", uri,
				   URI_MAX - sizeof(name) - strlen("/:65535"));
}

/**
 * uri_same - whether two URIs lead to the same export
 * @a: a URI from uri_for_volume()
 * @b: another
 */
bool uri_same(const char *a, const char *b)
{
	char error[URI_ERROR_MAX];
	struct parts p, q;

	if (!split(a, &p, error) || !split(b, &q, error) ||
	    p.scheme->unix_socket != q.scheme->unix_socket ||
	    p.path_len != q.path_len || memcmp(p.path, q.path, (size_t)p.path_len))
		return false;
	if (p.scheme->unix_socket)
		return p.socket_len == q.socket_len &&
		       !memcmp(p.socket, q.socket, (size_t)p.socket_len);
	return p.port == q.port && p.host_len == q.host_len &&
	       !strncasecmp(p.host, q.host, (size_t)p.host_len);
}

/**
 * uri_exposes_data - whether data goes over a network in plain text
 * @uri: a URI from uri_for_volume() or uri_for_hub()
 */
bool uri_exposes_data(const char *uri)
{
	char error[URI_ERROR_MAX], host[256];
	struct parts p;

	if (!split(uri, &p, error) || p.scheme->unix_socket || p.scheme->tls)
		return false;
	snprintf(host, sizeof(host), "%.*s", p.host_len, p.host);
	return strncmp(host, "127.", 4) && strcmp(host, "[::1]") &&
	       strcasecmp(host, "localhost");
}
