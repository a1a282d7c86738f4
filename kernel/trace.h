/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM repagent

#if !defined(DM_REPAGENT_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define DM_REPAGENT_TRACE_H

#include <linux/tracepoint.h>
#include "repagent.h"

#define REP_TRACE_NAME	(REPAGENT_NAME_MAX + 1)

#define rep_show_capture(c) __print_symbolic(c,		\
	{ REPAGENT_CAPTURE_INIT,	"init" },	\
	{ REPAGENT_CAPTURE_STREAM,	"stream" },	\
	{ REPAGENT_CAPTURE_TRACK,	"track" })

#define rep_show_image(i) __print_symbolic(i,		\
	{ REPAGENT_IMAGE_CLEAN,		"clean" },	\
	{ REPAGENT_IMAGE_DIRTY,		"dirty" },	\
	{ REPAGENT_IMAGE_RESYNC,	"resync" })

#define rep_show_reason(r) __print_symbolic(r,			\
	{ REPAGENT_REASON_NONE,		"none" },		\
	{ REPAGENT_REASON_FIRST_SYNC,	"first-sync" },		\
	{ REPAGENT_REASON_UNCLEAN,	"unclean" },		\
	{ REPAGENT_REASON_NO_MAP,	"no-map" },		\
	{ REPAGENT_REASON_RING_FULL,	"ring-full" },		\
	{ REPAGENT_REASON_HUB_REFUSED,	"hub-refused" },	\
	{ REPAGENT_REASON_HUB_FULL,	"hub-full" },		\
	{ REPAGENT_REASON_FENCED,	"fenced" },		\
	{ REPAGENT_REASON_PAUSED,	"paused" },		\
	{ REPAGENT_REASON_META_ERROR,	"meta-error" },		\
	{ REPAGENT_REASON_WRITE_FAILED,	"write-failed" },	\
	{ REPAGENT_REASON_REQUESTED,	"requested" },		\
	{ REPAGENT_REASON_RESIZED,	"resized" })

TRACE_EVENT(repagent_capture,
	TP_PROTO(struct rep_group *g, enum repagent_capture from,
		 enum repagent_capture to, enum repagent_reason reason),
	TP_ARGS(g, from, to, reason),
	TP_STRUCT__entry(
		__array(char, group, REP_TRACE_NAME)
		__field(int, from)
		__field(int, to)
		__field(int, reason)
	),
	TP_fast_assign(
		strscpy(__entry->group, g->name, REP_TRACE_NAME);
		__entry->from = from;
		__entry->to = to;
		__entry->reason = reason;
	),
	TP_printk("%s: %s -> %s, %s", __entry->group,
		  rep_show_capture(__entry->from), rep_show_capture(__entry->to),
		  rep_show_reason(__entry->reason))
);

TRACE_EVENT(repagent_image,
	TP_PROTO(struct rep_volume *v, enum repagent_image from,
		 enum repagent_image to, enum repagent_reason reason),
	TP_ARGS(v, from, to, reason),
	TP_STRUCT__entry(
		__array(char, group, REP_TRACE_NAME)
		__array(char, volume, REP_TRACE_NAME)
		__field(int, from)
		__field(int, to)
		__field(int, reason)
	),
	TP_fast_assign(
		strscpy(__entry->group, v->group->name, REP_TRACE_NAME);
		strscpy(__entry->volume, v->name, REP_TRACE_NAME);
		__entry->from = from;
		__entry->to = to;
		__entry->reason = reason;
	),
	TP_printk("%s/%s: %s -> %s, %s", __entry->group, __entry->volume,
		  rep_show_image(__entry->from), rep_show_image(__entry->to),
		  rep_show_reason(__entry->reason))
);

TRACE_EVENT(repagent_reserve,
	TP_PROTO(struct rep_volume *v, u64 seq, u8 type, sector_t sector,
		 sector_t nr_sectors),
	TP_ARGS(v, seq, type, sector, nr_sectors),
	TP_STRUCT__entry(
		__array(char, group, REP_TRACE_NAME)
		__array(char, volume, REP_TRACE_NAME)
		__field(u64, seq)
		__field(u8, type)
		__field(sector_t, sector)
		__field(sector_t, nr_sectors)
	),
	TP_fast_assign(
		strscpy(__entry->group, v->group->name, REP_TRACE_NAME);
		strscpy(__entry->volume, v->name, REP_TRACE_NAME);
		__entry->seq = seq;
		__entry->type = type;
		__entry->sector = sector;
		__entry->nr_sectors = nr_sectors;
	),
	TP_printk("%s/%s: seq %llu type %u sector %llu + %llu", __entry->group,
		  __entry->volume, __entry->seq, __entry->type,
		  (unsigned long long)__entry->sector,
		  (unsigned long long)__entry->nr_sectors)
);

DECLARE_EVENT_CLASS(repagent_range_result,
	TP_PROTO(struct rep_volume *v, sector_t sector, sector_t nr_sectors,
		 int error),
	TP_ARGS(v, sector, nr_sectors, error),
	TP_STRUCT__entry(
		__array(char, group, REP_TRACE_NAME)
		__array(char, volume, REP_TRACE_NAME)
		__field(sector_t, sector)
		__field(sector_t, nr_sectors)
		__field(int, error)
	),
	TP_fast_assign(
		strscpy(__entry->group, v->group->name, REP_TRACE_NAME);
		strscpy(__entry->volume, v->name, REP_TRACE_NAME);
		__entry->sector = sector;
		__entry->nr_sectors = nr_sectors;
		__entry->error = error;
	),
	TP_printk("%s/%s: sector %llu + %llu error %d", __entry->group,
		  __entry->volume, (unsigned long long)__entry->sector,
		  (unsigned long long)__entry->nr_sectors, __entry->error)
);

DEFINE_EVENT(repagent_range_result, repagent_write_failed,
	TP_PROTO(struct rep_volume *v, sector_t sector, sector_t nr_sectors,
		 int error),
	TP_ARGS(v, sector, nr_sectors, error)
);

DEFINE_EVENT(repagent_range_result, repagent_resync_read,
	TP_PROTO(struct rep_volume *v, sector_t sector, sector_t nr_sectors,
		 int error),
	TP_ARGS(v, sector, nr_sectors, error)
);

TRACE_EVENT(repagent_ack,
	TP_PROTO(struct rep_group *g, u64 seq),
	TP_ARGS(g, seq),
	TP_STRUCT__entry(
		__array(char, group, REP_TRACE_NAME)
		__field(u64, seq)
	),
	TP_fast_assign(
		strscpy(__entry->group, g->name, REP_TRACE_NAME);
		__entry->seq = seq;
	),
	TP_printk("%s: seq %llu", __entry->group, __entry->seq)
);

#endif /* DM_REPAGENT_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
