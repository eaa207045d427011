// SPDX-License-Identifier: LGPL-2.1-or-later
// What an arrived guest is here: its definition, its state, its job, and what clients are told of them.
#include "driver/migration/incoming.h"

#include "base/error.h"
#include "driver/domains.h"
#include "driver/migration/anchor_away.h"
#include "driver/migration/departure.h"
#include "driver/migration/moved.h"
#include "driver/migration/nics.h"
#include "driver/nic_events.h"
#include "driver/store.h"

// Of a guest whose emulator took everything with it and whose domain is not known here any more.
static Domain *
domain_from_file(Incoming *incoming, const char *path)
{
    g_autofree char *xml = NULL;
    g_autoptr(GError) error = NULL;
    gboolean created;
    g_autoptr(DomainDef) def =
        path && g_file_get_contents(path, &xml, NULL, &error) ? domain_def_parse(xml, &error) : NULL;
    Domain *domain =
        def ? domain_list_add(driver_domains(incoming->driver), incoming->driver, def, &created, &error)
            : NULL;
    if (!domain) {
        g_critical("the definition of %s, which has moved here, is lost: %s", incoming->uuid,
                   error ? error->message : "its record names no file");
        return NULL;
    }
    domain_lock(domain);
    if (!domain->persistent)
        domain->persistent = g_steal_pointer(&def);
    domain_unlock(domain);
    return domain;
}

// With the domain locked.
static void
persist(Domain *domain)
{
    g_autoptr(GError) error = NULL;
    gboolean update = domain->persistent != NULL;
    if (domain->live) {
        domain_def_free(domain->persistent);
        domain->persistent = domain_def_copy(domain->live);
    }
    if (!domain->persistent)
        return;
    if (!store_save_definition(domain, domain->persistent, &error))
        g_warning("definition of %s: %s", domain->name, error->message);
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_DEFINED,
                          update ? VIR_DOMAIN_EVENT_DEFINED_UPDATED : VIR_DOMAIN_EVENT_DEFINED_ADDED);
}

// A definition that was here before, and stays, is of disks of an earlier stay: a chain in it that the disk
// which has come does not have would be opened with it at the next start. With the domain locked.
static void
renew_images(Domain *domain)
{
    if (!domain->persistent || !domain->live)
        return;
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) arrived = domain_def_copy(domain->live);
    g_autofree char *before = domain_def_format(domain->persistent, DOMAIN_FORMAT_INACTIVE, -1);
    for (guint i = 0; i < arrived->disks->len; i++) {
        DomainDisk *disk = g_ptr_array_index(arrived->disks, i);
        DomainDisk *kept = domain_find_disk(domain->persistent, disk->target);
        if (!kept || g_strcmp0(kept->image.path, disk->image.path) != 0)
            continue;
        const DomainImage former = kept->image;
        kept->image = disk->image;
        disk->image = former;
    }
    g_autofree char *after = domain_def_format(domain->persistent, DOMAIN_FORMAT_INACTIVE, -1);
    if (!g_str_equal(before, after) && !store_save_definition(domain, domain->persistent, &error))
        g_warning("definition of %s: %s", domain->name, error->message);
}

// A guest that arrived dead keeps its definition here, beside its disk, whether or not that was asked.
static void
book_crashed(Incoming *incoming, const char *xml_path)
{
    if (incoming->domain && incoming->domain->removed)
        g_clear_pointer(&incoming->domain, domain_unref);
    if (!incoming->domain)
        incoming->domain = domain_from_file(incoming, xml_path);
    Domain *domain = incoming->domain;
    if (!domain)
        return;
    domain_lock(domain);
    persist(domain);
    domain_clear_messages(domain);
    domain_unlock(domain);
    departure_end_emulator(domain, VIR_DOMAIN_SHUTOFF_CRASHED, VIR_DOMAIN_EVENT_STOPPED_FAILED);
    domain_lock(domain);
    domain_set_state(domain, VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_SHUTOFF_CRASHED);
    domain_unlock(domain);
}

static void
book_running(Incoming *incoming, gboolean keep)
{
    Domain *domain = incoming->domain;
    g_autoptr(GError) error = NULL;
    domain_lock(domain);
    domain_clear_messages(domain);
    if (keep)
        persist(domain);
    else
        renew_images(domain);
    if (domain_is_active(domain) && !store_save_status(domain, &error))
        g_warning("status of %s: %s", domain->name, error->message);
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_MIGRATED);
    if (domain->state == VIR_DOMAIN_RUNNING)
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_MIGRATED);
    else
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
    domain_unlock(domain);
}

void
incoming_book(Incoming *incoming)
{
    g_mutex_lock(&incoming->lock);
    gboolean due = !incoming->booked && incoming->state == INCOMING_ARRIVED;
    incoming->booked |= due;
    // Taken along: another connection of the source may close the record meanwhile.
    const Handoff *handoff = incoming->handoff;
    gboolean keep = handoff && handoff->persist_dest;
    g_autofree char *xml_path = handoff ? g_strdup(handoff->xml_path) : NULL;
    g_mutex_unlock(&incoming->lock);
    if (due && incoming->crashed)
        book_crashed(incoming, xml_path);
    else if (due)
        book_running(incoming, keep);
    if (due)
        moved_forget(incoming->driver->state_dir, incoming->uuid);
    if (due && !incoming->crashed) {
        anchor_away_arrived(incoming->domain);
        move_nics_mend(incoming->domain);
        domain_lock(incoming->domain);
        nic_events_await_segment(incoming->domain);
        domain_unlock(incoming->domain);
    } else if (due) {
        anchor_away_end(incoming->driver, incoming->uuid);
    }
}

void
incoming_finish_job(Incoming *incoming, json_t *figures)
{
    Domain *domain = incoming->domain;
    if (!domain)
        return;
    domain_lock(domain);
    if (domain->job.async == ASYNC_MIGRATION_IN) {
        JobStats *stats = &domain->job.current;
        stats->stopped_us = json_integer_value(json_object_get(figures, "stopped"));
        stats->resumed_us = json_integer_value(json_object_get(figures, "resumed"));
        stats->downtime = (guint64) json_integer_value(json_object_get(figures, "downtime"));
        stats->downtime_set = stats->resumed_us != 0;
        stats->memory_total = (guint64) json_integer_value(json_object_get(figures, "memory-total"));
        stats->memory_processed = (guint64) json_integer_value(json_object_get(figures, "memory"));
        stats->memory_iteration = (guint64) json_integer_value(json_object_get(figures, "iteration"));
        stats->disk_total = stats->disk_processed =
            (guint64) json_integer_value(json_object_get(figures, "disk"));
        stats->data_total = stats->data_processed = stats->memory_processed + stats->disk_processed;
        job_end_async(domain, VIR_DOMAIN_JOB_COMPLETED);
    }
    domain_unlock(domain);
}
