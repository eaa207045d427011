// SPDX-License-Identifier: LGPL-2.1-or-later
// What happens to guests' NICs: the event, the message, and the host's links by which it comes about.
#include "driver/nic_events.h"

#include "base/frame.h"
#include "driver/domains.h"
#include "driver/links.h"

// When a segment should have learned (SWITCH_STRAY_MS in vnet/switch.h, and some time for the guest's start).
#define SEGMENT_FIRST_MS 4000
#define SEGMENT_NEXT_MS  10000
#define SEGMENT_LOOKS    2

static const struct {
    const char *begins, *ends;
} names[] = {
    [NIC_LOST] = {"lost", "back"},
    [NIC_LINK] = {"link-down", "link-up"},
    [NIC_TUNNEL] = {"tunnel-down", "tunnel-up"},
    [NIC_DETOUR] = {"detour", "direct"},
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == NIC_TROUBLES);

// Locked; the caller frees.
static char *
alias_of(const Domain *domain, guint index)
{
    const DomainInterface *interface = domain->live && index < domain->live->interfaces->len
                                           ? g_ptr_array_index(domain->live->interfaces, index)
                                           : NULL;
    return interface && interface->info.alias ? g_strdup(interface->info.alias)
                                              : g_strdup_printf("net%u", index);
}

static json_t *
details_of(const char *alias, guint index, NicTrouble trouble, const char *problem)
{
    return json_pack("{s:s, s:i, s:s, s:s?}", "nic", alias, "index", (int) index, "event",
                     problem ? names[trouble].begins : names[trouble].ends, "problem", problem);
}

void
nic_events_tell_home(Driver *driver, const char *uuid, const char *name, guint index, NicTrouble trouble,
                     const char *problem)
{
    g_autofree char *alias = g_strdup_printf("net%u", index);
    g_autoptr(json_t) details = details_of(alias, index, trouble, problem);
    DomainEvent event = {.id = EVENT_ID_MONITOR, .name = name, .domain_id = -1};
    if (domain_uuid_parse(uuid, event.uuid))
        domain_event_emit_monitor(driver, &event, NIC_EVENT_NAME, details);
}

void
domain_network_event(Domain *domain, guint index, NicTrouble trouble, const char *problem)
{
    const char *known = nic_status_trouble(domain, index, trouble);
    // The same trouble in other words is the same trouble.
    gboolean news = (known == NULL) != (problem == NULL);
    nic_status_set_trouble(domain, index, trouble, problem);
    if (!news)
        return;
    g_autofree char *alias = alias_of(domain, index);
    g_autoptr(json_t) details = details_of(alias, index, trouble, problem);
    if (problem)
        g_warning("domain '%s': network interface %s: %s", domain->name, alias, problem);
    else
        g_message("domain '%s': network interface %s: %s", domain->name, alias, names[trouble].ends);
    domain_emit_monitor(domain, NIC_EVENT_NAME, details);
}

void
domain_network_problems(Domain *domain, GPtrArray *texts)
{
    for (guint i = 0; domain_is_active(domain) && domain->live && i < domain->live->interfaces->len; i++)
        for (guint trouble = 0; trouble < NIC_TROUBLES; trouble++) {
            const char *problem = nic_status_trouble(domain, i, trouble);
            g_autofree char *alias = problem ? alias_of(domain, i) : NULL;
            if (problem)
                g_ptr_array_add(texts, g_strdup_printf("network interface %s: %s", alias, problem));
        }
}

// Unlocked. The host's NIC is the one that the guest's quasar-vnet names. One that is gone ends that, which
// is told in its own way (process_nics.c).
static void
look(Domain *domain, guint index, const char *only)
{
    g_autoptr(json_t) status = NULL;
    g_autofree char *problem = NULL;
    NicCounters counters;
    const char *nic = nic_status_read(domain, index, &counters, &status)
                          ? json_string_value(json_object_get(status, "nic"))
                          : NULL;
    if (!nic || (only && !g_str_equal(nic, only)))
        return;
    domain_lock(domain);
    // Looked at under the lock, so that of two who look the later one has the last word.
    const LinkState state = links_look(nic);
    if (state == LINK_DOWN)
        problem = g_strdup_printf("the host's NIC '%s' is down", nic);
    else if (state == LINK_NO_CARRIER)
        problem = g_strdup_printf("the host's NIC '%s' has no link: its cable is out", nic);
    if (state != LINK_GONE && domain_is_active(domain))
        domain_network_event(domain, index, NIC_LINK, problem);
    domain_unlock(domain);
}

void
nic_events_look(Domain *domain, guint index)
{
    look(domain, index, NULL);
}

static void
look_for_all(Driver *driver, gpointer nic)
{
    g_autoptr(GPtrArray) domains =
        domain_list_filter(driver_domains(driver), VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    for (guint i = 0; i < domains->len; i++) {
        Domain *domain = g_ptr_array_index(domains, i);
        domain_lock(domain);
        const guint n = domain->vnets ? domain->vnets->len : 0;
        domain_unlock(domain);
        for (guint index = 0; index < n; index++)
            look(domain, index, nic);
    }
    g_free(nic);
}

// Unlocked. TRUE: this NIC's segment has not learned where it is.
static gboolean
takes_detour(Domain *domain, guint index, guint64 generation)
{
    g_autoptr(json_t) status = NULL;
    NicCounters counters;
    if (!nic_status_read(domain, index, &counters, &status))
        return FALSE;
    const gboolean detour = json_is_true(json_object_get(status, "strays"));
    domain_lock(domain);
    if (domain_is_active(domain) && domain->generation == generation)
        domain_network_event(domain, index, NIC_DETOUR,
                             detour ? "its segment does not bring its frames here (a static entry in a "
                                      "switch, or port security): those that still come to the host that it "
                                      "was on before are passed on, and that host has to stay up"
                                    : NULL);
    domain_unlock(domain);
    return detour;
}

typedef struct {
    Domain *domain;
    guint64 generation;
    guint looks; // so far: what is said at first may be out of date
} Arrival;

// On a worker; keeps `data` for the next time or frees it.
static void
look_at_segments(Driver *driver, gpointer data)
{
    Arrival *arrival = data;
    Domain *domain = arrival->domain;
    gboolean again = FALSE;
    domain_lock(domain);
    const gboolean here = domain_is_active(domain) && domain->generation == arrival->generation;
    const guint n = here && domain->vnets ? domain->vnets->len : 0;
    domain_unlock(domain);
    for (guint i = 0; i < n; i++)
        again |= takes_detour(domain, i, arrival->generation);
    if (n > 0 && (again || ++arrival->looks < SEGMENT_LOOKS)) {
        driver_defer_later(driver, SEGMENT_NEXT_MS, look_at_segments, arrival, NULL);
    } else {
        domain_unref(domain);
        g_free(arrival);
    }
}

void
nic_events_await_segment(Domain *domain)
{
    Arrival *arrival = g_new0(Arrival, 1);
    *arrival = (Arrival){.domain = domain_ref(domain), .generation = domain->generation};
    driver_defer_later(domain->driver, SEGMENT_FIRST_MS, look_at_segments, arrival, NULL);
}

// On the emulator thread.
static void
link_changed(const char *nic, LinkState state, gpointer driver)
{
    if (state != LINK_GONE)
        driver_defer(driver, look_for_all, g_strdup(nic), NULL);
}

void
nic_events_start(Driver *driver)
{
    g_autoptr(GError) error = NULL;
    if (!links_watch(driver->emulator, link_changed, driver, &error))
        g_warning("guests will not hear of this host's NICs going down: %s", error->message);
}
