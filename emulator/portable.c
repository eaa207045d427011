// SPDX-License-Identifier: LGPL-2.1-or-later
// Which NICs can move between hosts of unlike byte order.
#include "emulator/portable.h"

#include "base/error.h"

// The first feature of a NIC that makes the host do the guest's work; NULL: it is portable.
static const char *
offloaded(const DomainNicFeatures *features)
{
    const struct {
        Tristate value;
        const char *name;
    } all[] = {
        {features->host_csum, "host csum"},   {features->host_gso, "host gso"},
        {features->host_tso4, "host tso4"},   {features->host_tso6, "host tso6"},
        {features->host_ecn, "host ecn"},     {features->host_ufo, "host ufo"},
        {features->guest_csum, "guest csum"}, {features->guest_tso4, "guest tso4"},
        {features->guest_tso6, "guest tso6"}, {features->guest_ecn, "guest ecn"},
        {features->guest_ufo, "guest ufo"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(all); i++)
        if (all[i].value == TRISTATE_ON)
            return all[i].name;
    return NULL;
}

gboolean
emulator_nics_may_move(const EmulatorTraits *source, const EmulatorTraits *destination, const DomainDef *def,
                       GError **error)
{
    for (guint i = 0; source->big_endian != destination->big_endian && i < def->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(def->interfaces, i);
        const char *feature = offloaded(&interface->features);
        g_autofree char *mac = domain_mac_format(interface->mac);
        if (!feature)
            continue;
        quasar_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                         "the hosts' byte orders differ (%s, %s) and NIC %s has feature '%s', which needs "
                         "hosts of one byte order; define it without, in <driver> of <interface>",
                         source->arch, destination->arch, mac, feature);
        return FALSE;
    }
    return TRUE;
}
