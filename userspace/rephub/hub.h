/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hub's engine: groups with their journals, sessions that add to them, views
 * of points in them.  It knows nothing of NBD.  All functions may be called in
 * any thread, but one session's writes by one thread at a time.
 */
#ifndef REPHUB_HUB_H
#define REPHUB_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/frame.h"

#define HUB_ERROR_MAX	512	/* bytes that suffice for a sentence */
#define HUB_TEXT_MAX	128	/* ... for what is said of a point */

struct hub;
struct group;
struct hub_session;
struct hub_view;
struct hub_sums;
struct hub_back;
struct hub_disk;

/* What a group does when the disk is full; Documentation/segments.md, A full disk. */
enum hub_when_full { HUB_STOP_INGEST = 1, HUB_DROP_HISTORY };

/*
 * struct hub_retention - how much of a group's journal is kept; what is older is folded into the base
 * @bytes:	0: no limit
 * @ns:		by age; what is older may stay until its segment is, too. 0: no limit
 * @own:	these were set for the group, else it is what holds for all
 * @own_when_full: likewise
 */
struct hub_retention {
	uint64_t bytes;
	uint64_t ns;
	bool own;
	enum hub_when_full when_full;
	bool own_when_full;
};

/*
 * struct hub_options - hub_options_init() fills the defaults
 * @create:	a group that does not exist is created at its first HELLO
 * @segment:	bytes of a segment of the journal
 * @keep:	of journal, for each group that nothing else was said of
 * @cache:	bytes of memory for what was read of the journals
 * @verify_every: volumes are compared with their source this often, ns; 0: by command alone
 * @verify_rate: ... at so many bytes a second; 0: no limit
 * @reserve:	bytes of the disk that streams do not get; 0: by the disk's size
 * @warn:	ns before the disk is full that it is warned of; 0: it is not
 * @log:	takes a line, in any thread
 * @step:	told of each durable step of a fail-over, and its end, so that tests can end the hub there;
 *		may be NULL
 */
struct hub_options {
	bool create;
	uint64_t segment;
	struct hub_retention keep;
	size_t cache;
	uint64_t verify_every, verify_rate;
	uint64_t reserve, warn;
	void (*log)(void *data, int priority, const char *line);
	void (*step)(void *data, const char *what);
	void *data;
};

void hub_options_init(struct hub_options *o);
struct hub *hub_open(const char *dir, const struct hub_options *o, char *error);
void hub_close(struct hub *hub);
void hub_identity(const struct hub *hub, uint8_t *uuid);
void hub_tend(struct hub *hub);
void hub_rest(struct hub *hub);
void hub_wake(struct hub *hub);

/* session.c: the log's export, each call with an errno and a reason of NBDS_REASON_MAX */
#define HUB_REASON_MAX	160

struct hub_session *hub_session_new(struct hub *hub, const char *group, const char *peer);
int hub_session_write(struct hub_session *s, uint64_t offset, const void *buf, size_t len, char *reason);
int hub_session_read(struct hub_session *s, uint64_t offset, void *buf, size_t len, char *reason);
int hub_session_flush(struct hub_session *s, char *reason);
bool hub_session_slowed(struct hub_session *s);
bool hub_session_still_slowed(struct hub_session *s);
bool hub_session_over(struct hub_session *s, char *reason);
void hub_session_free(struct hub_session *s);

/* view.c */
struct hub_view *hub_view_open(struct hub *hub, const char *group, const char *volume,
			       const char *point, char *reason);
uint64_t hub_view_size(const struct hub_view *v);
void hub_view_position(const struct hub_view *v, uint64_t *incarnation, uint64_t *seq, uint64_t *time);
int hub_view_read(struct hub_view *v, uint64_t offset, void *buf, size_t len, char *reason);
bool hub_view_next(struct hub_view *v, uint64_t offset, uint64_t end, uint64_t *next);
void hub_view_for(struct hub_view *v, const char *who);
void hub_view_close(struct hub_view *v);

/* sums.c: what a volume has, without its data */
struct hub_sums *hub_sums_open(struct hub *hub, const char *group, const char *volume, const char *peer, char *reason);
uint64_t hub_sums_size(const struct hub_sums *s);
int hub_sums_want(struct hub_sums *s, uint64_t offset, const void *buf, size_t len, char *reason);
int hub_sums_read(struct hub_sums *s, uint64_t offset, void *buf, size_t len, bool *hole, char *reason);
void hub_sums_close(struct hub_sums *s);

/* overlay.c: volumes that can be written */
uint64_t hub_disk_size(const struct hub_disk *d);
int hub_disk_read(struct hub_disk *d, uint64_t offset, void *buf, size_t len, char *reason);
/*
 * struct hub_writer - who writes to a disk
 * @client:	rises with each connection: what one sends is refused once a later one has written
 * @token:	who it says that it is, over all its connections: what another token has displaced comes never back;
 *		0: nobody in particular
 */
struct hub_writer {
	uint64_t client;
	uint64_t token;
};

int hub_disk_write(struct hub_disk *d, const struct hub_writer *by, uint64_t offset, const void *buf, size_t len,
		   char *reason);
int hub_disk_zero(struct hub_disk *d, const struct hub_writer *by, uint64_t offset, uint64_t len, bool discard,
		  char *reason);
bool hub_disk_displaced(struct hub_disk *d, uint64_t token, char *reason);
uint64_t hub_disk_incarnation(const struct hub_disk *d);
int hub_disk_flush(struct hub_disk *d, char *reason);
bool hub_disk_next(struct hub_disk *d, uint64_t offset, uint64_t end, uint64_t *next);
bool hub_disk_over(struct hub_disk *d, char *reason);
void hub_disk_close(struct hub_disk *d);

/*
 * struct hub_order - failover.c: how to fail over
 * @point:	see point_find()
 * @planned:	only if the source has ended, and nothing came behind the point
 * @partial:	without volumes that cannot be used at that point
 * @commit_after: ns, after which it commits by itself; 0: never
 */
struct hub_order {
	const char *point;
	bool planned, partial;
	uint64_t commit_after;
};

int hub_failover(struct hub *hub, const char *group, const struct hub_order *o, char *reason);
int hub_commit(struct hub *hub, const char *group, char *reason);
int hub_rollback(struct hub *hub, const char *group, char *reason);
struct hub_disk *hub_live_open(struct hub *hub, const char *group, const char *volume, char *reason);

/* scratch.c: fail-over tests */
#define HUB_TEST_ID	9	/* bytes of its name */
#define HUB_NOTE_MAX	96	/* bytes of what a person says of it */

struct hub_test_info {
	const char *group, *id;
	uint64_t incarnation, seq, point_time;
	uint64_t since, limit, used;
	unsigned int nr_volumes;
	const char *const *volume;
	unsigned int users;
	const char *trouble;			/* NULL: it can be used */
};

int hub_test_start(struct hub *hub, const char *group, const char *point, uint64_t limit, char *id, char *reason);
int hub_test_stop(struct hub *hub, const char *id, const char *result, const char *note, char *reason);
void hub_tests(struct hub *hub, void (*each)(void *data, const struct hub_test_info *t), void *data);
struct hub_disk *hub_test_open(struct hub *hub, const char *id, const char *volume, char *reason);
bool hub_test_group(struct hub *hub, const char *id, char *group);

/* changed.c: what is to be moved when a side comes back */
int hub_changed(struct hub *hub, const char *group, const char *volume, const char *point,
		bool (*each)(void *data, uint64_t offset, uint64_t length), void *data, char *reason);
#define HUB_BACK_MAX	128	/* bytes of hub_back_text() */
struct hub_back *hub_back_open(struct hub *hub, const char *group, const char *volume, const char *point, char *reason);
struct hub_view *hub_back_view(const struct hub_back *b);
const char *hub_back_text(const struct hub_back *b);
bool hub_back_next(const struct hub_back *b, uint64_t offset, uint64_t end, uint64_t *next);
void hub_back_close(struct hub_back *b);

/* info.c: what there is, for those who ask */
struct hub_group_info {
	const char *name;
	uint8_t uuid[16];
	uint64_t generation;
	uint64_t incarnation, seq;		/* of the last record that is durable */
	uint64_t oldest_incarnation, oldest_seq;	/* the oldest point that can be viewed */
	uint64_t oldest_time, newest_time;
	uint64_t segments, journal_bytes, base_bytes, records;
	bool connected;
	unsigned int views;
	const char *trouble;
	const char *failover;			/* a word */
	uint64_t fenced_since;			/* when the generation was made; 0: with the group */
	uint64_t commit_at;
	bool live;				/* live/GROUP/VOLUME can be opened */
	unsigned int live_users;		/* ... and was, so many times */
	uint64_t verified;			/* all volumes were compared since; 0: not all were */
	uint64_t differed, unrepaired;		/* bytes that were found then */
};

/* verify.c: whether volumes are what their source has */
enum hub_verify_state {
	HUB_VERIFY_NEVER, HUB_VERIFY_WANTED, HUB_VERIFY_RUNNING, HUB_VERIFY_DONE, HUB_VERIFY_STOPPED,
	HUB_VERIFY_NR_STATES
};

/*
 * struct hub_verify_info - the last comparison
 * @state:	a word
 * @wanted, @ended: when, 0: never; @ended may be of the one before
 * @reached, @differed, @unrepaired, @skipped: bytes, see struct verify_report
 * @rate:	bytes a second; 0: no limit
 */
struct hub_verify_info {
	const char *state;
	uint64_t wanted, ended, rate;
	uint64_t reached, differed, unrepaired, skipped;
};

int hub_verify(struct hub *hub, const char *group, const char *volume, bool stop, uint64_t rate, char *reason);

struct hub_volume_info {
	const char *group, *name;
	uint64_t sectors;
	bool removed, map_error;
	const char *state;			/* NULL: it can be viewed */
	struct hub_verify_info verify;
};

/*
 * struct hub_point_info - a place in a group's log that is of interest
 * @what:	a word: checkpoint, gap, resync-begin, ...
 * @text:	the label, the name of the volume, or what became of the test; may be empty
 * @why:	of a gap, or a write that failed; may be empty
 */
struct hub_point_info {
	uint64_t incarnation, seq, time;
	const char *what;
	char text[HUB_TEXT_MAX];
	char why[64];
};

/*
 * struct hub_view_info - a view that is open
 * @who:	opened it
 * @since:	ns since the epoch
 * @time:	of the point; 0: not known
 */
struct hub_view_info {
	const char *group;
	char volume[REPAGENT_NAME_MAX + 1];
	char who[64];
	uint64_t since;
	uint64_t incarnation, seq, time;
};

/*
 * struct hub_event - something that happened
 * @serial:	rises, also over restarts
 * @group:	may be empty
 * @what:	a word, see Documentation/segments.md
 * @incarnation, @seq: the place in the group's log; zeroes: none
 */
struct hub_event {
	uint64_t serial, time;
	char group[REPAGENT_NAME_MAX + 1];
	char what[20];
	uint64_t incarnation, seq;
	char text[HUB_REASON_MAX];
};

/*
 * struct hub_event_query - which are asked for
 * @group:	NULL: of all
 * @after:	the first of those with a serial above that; 0: the last of all
 * @before:	only those with a serial below that; 0: no limit
 */
struct hub_event_query {
	const char *group;
	uint64_t after, before;
	unsigned int most;
};

/*
 * struct hub_space_info - what a group takes of the disk, in bytes
 * @rate:	bytes a second that its journal takes in, over the last minutes
 * @state:	a word
 */
struct hub_space_info {
	const char *group;
	uint64_t journal, index, base;
	double rate;
	struct hub_retention keep;
	const char *state;
};

/*
 * struct hub_space_total - the disk that the hub's directory is on
 * @full:	seconds until the reserve is reached at these rates; negative: never, for what is kept has room
 * @warning:	of a full disk; may be empty
 */
struct hub_space_total {
	uint64_t size, free, reserve;
	double full;
	char warning[HUB_REASON_MAX];
};

void hub_groups(struct hub *hub, void (*each)(void *data, const struct hub_group_info *g), void *data);
bool hub_volumes(struct hub *hub, const char *group,
		 void (*each)(void *data, const struct hub_volume_info *v), void *data);
bool hub_points(struct hub *hub, const char *group, bool timed, unsigned int most,
		void (*each)(void *data, const struct hub_point_info *p), void *data);
void hub_views(struct hub *hub, void (*each)(void *data, const struct hub_view_info *v), void *data);
void hub_events(struct hub *hub, const struct hub_event_query *q,
		void (*each)(void *data, const struct hub_event *e), void *data);
void hub_space(struct hub *hub, struct hub_space_total *total,
	       void (*each)(void *data, const struct hub_space_info *s), void *data);
bool hub_space_low(struct hub *hub, char *text);
const char *hub_when_full_name(enum hub_when_full w);
bool hub_when_full_parse(const char *name, enum hub_when_full *w);

/* retention.c, forget.c: what a person changes; the errno says what is wrong, ENOENT that there is no such group */
int hub_get_retention(struct hub *hub, const char *group, struct hub_retention *keep);
int hub_set_retention(struct hub *hub, const char *group, const struct hub_retention *keep, char *reason);
int hub_forget(struct hub *hub, const char *group, char *reason);

#endif /* REPHUB_HUB_H */
