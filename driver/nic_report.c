// SPDX-License-Identifier: LGPL-2.1-or-later
// The list of all NICs that this host serves: running guests' by themselves, others from whoever has them.
#include "driver/nic_report.h"

#include "base/frame.h"
#include "driver/domains.h"

#define SOURCES_MAX 4

static NicSource sources[SOURCES_MAX];
static guint n_sources;

void
nic_report_add_source(NicSource source)
{
    g_return_if_fail(n_sources < SOURCES_MAX);
    sources[n_sources++] = source;
}

static json_t *
text_or_null(const char *text)
{
    json_t *value = text ? json_string(text) : NULL;
    return value ? value : json_null();
}

static json_t *
count(guint64 value)
{
    return json_integer((json_int_t) value);
}

static json_t *
direction(guint64 frames, guint64 bytes, guint64 dropped)
{
    return json_pack("{s:o, s:o, s:o}", "frames", count(frames), "bytes", count(bytes), "dropped",
                     count(dropped));
}

// By the reason; what the guest's own rings make impossible is told by its port.
static json_t *
drops_of(const json_t *status)
{
    static const char *const of_port[] = {"malformed", "broken_rings", "cut_off"};
    json_t *drops = json_copy(json_object_get(status, "drops"));
    for (guint i = 0; json_is_object(drops) && i < G_N_ELEMENTS(of_port); i++) {
        json_t *value = json_object_get(json_object_get(status, "port"), of_port[i]);
        if (json_is_integer(value))
            json_object_set(drops, of_port[i], value);
    }
    return drops;
}

static void
encode_counters(json_t *object, const NicEntry *entry)
{
    const NicCounters *counters = entry->counters;
    g_autoptr(json_t) drops = drops_of(entry->status);
    const json_t *capture = json_object_get(entry->status, "capture");
    if (counters) {
        json_object_set_new(object, "received",
                            direction(counters->rx_packets, counters->rx_bytes, counters->rx_dropped));
        json_object_set_new(object, "sent",
                            direction(counters->tx_packets, counters->tx_bytes, counters->tx_dropped));
    }
    if (json_is_object(drops))
        json_object_set(object, "drops", drops);
    if (json_is_object(capture))
        json_object_set_new(object, "capture-drops",
                            json_integer(json_integer_value(json_object_get(capture, "dropped")) +
                                         json_integer_value(json_object_get(capture, "ifdropped"))));
}

json_t *
nic_entry_encode(const NicEntry *entry)
{
    g_autofree char *alias = entry->alias ? NULL : g_strdup_printf("net%u", entry->index);
    json_t *object = json_pack(
        "{s:o, s:o, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",                                    //
        "domain", text_or_null(entry->name), "uuid", text_or_null(entry->uuid),                       //
        "nic", text_or_null(alias ? alias : entry->alias), "index", (int) entry->index,               //
        "mac", text_or_null(entry->mac), "host-nic", text_or_null(entry->host_nic),                   //
        "mode", text_or_null(entry->mode), "peer", text_or_null(entry->peer),                         //
        "round-trip-us", entry->round_trip_us < 0 ? json_null() : json_integer(entry->round_trip_us), //
        "queue", count(entry->queue), "problem", text_or_null(entry->problem));
    encode_counters(object, entry);
    return object;
}

static void
visit_nic(Domain *domain, const DomainDef *def, guint index, NicVisit visit, gpointer data)
{
    const DomainInterface *interface = g_ptr_array_index(def->interfaces, index);
    const gboolean user = interface->type == DOMAIN_INTERFACE_USER;
    g_autofree char *mac = domain_mac_format(interface->mac), *problem = NULL, *home = NULL;
    g_autoptr(json_t) status = NULL;
    NicCounters counters;
    gboolean known = nic_status_read(domain, index, &counters, &status);
    domain_lock(domain);
    home = domain_nic_home(domain, index);
    for (guint i = 0; !problem && i < NIC_TROUBLES; i++)
        problem = g_strdup(nic_status_trouble(domain, index, i));
    gboolean lost = nic_status_trouble(domain, index, NIC_LOST) || !domain->vnets ||
                    index >= domain->vnets->len || !g_ptr_array_index(domain->vnets, index);
    domain_unlock(domain);
    const char *mode = json_string_value(json_object_get(status, "mode"));
    const NicEntry entry = {.uuid = def->uuid,
                            .name = domain->name,
                            .index = index,
                            .alias = interface->info.alias,
                            .mac = mac,
                            .host_nic = json_string_value(json_object_get(status, "nic")),
                            .mode = user   ? "user"
                                    : lost ? "lost"
                                    : mode ? nic_mode_name(mode)
                                           : NULL,
                            .peer = home,
                            .round_trip_us = nic_round_trip_us(status),
                            .queue = nic_queue_frames(status),
                            .counters = known ? &counters : NULL,
                            .status = status,
                            .problem = problem};
    visit(&entry, data);
}

static gint
by_name(gconstpointer a, gconstpointer b)
{
    return g_strcmp0((*(Domain *const *) a)->name, (*(Domain *const *) b)->name);
}

void
nic_report_each(Driver *driver, NicVisit visit, gpointer data)
{
    g_autoptr(GPtrArray) domains =
        domain_list_filter(driver_domains(driver), VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    g_ptr_array_sort(domains, by_name);
    for (guint i = 0; i < domains->len; i++) {
        Domain *domain = g_ptr_array_index(domains, i);
        domain_lock(domain);
        g_autoptr(DomainDef) def = domain->live ? domain_def_copy(domain->live) : NULL;
        domain_unlock(domain);
        for (guint nic = 0; def && nic < def->interfaces->len; nic++)
            visit_nic(domain, def, nic, visit, data);
    }
    for (guint i = 0; i < n_sources; i++)
        sources[i](driver, visit, data);
}
