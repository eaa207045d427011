// SPDX-License-Identifier: LGPL-2.1-or-later
// The tables of all programs' procedures, and what their handlers share.
#pragma once

#include <glib.h>

#include "driver/domain.h"
#include "driver/driver.h"
#include "driver/networks.h"
#include "driver/rpc/protocol.h"
#include "driver/rpc/remote.h"
#include "driver/rpc/server.h"

// The programs that we serve.
extern const RpcProgram procedures_programs[];
extern const gsize procedures_n_programs;

// What we keep for a connection, from its opening until the last of its calls is done.
typedef struct Client {
    Driver *driver;
    GMutex lock;
    GPtrArray *callbacks; // EventRegistration, procedures_event.c
    int next_callback;
    guint subscription; // 0: no domain event is wanted yet
} Client;

// Callbacks for the server; `driver` is their data.
void procedures_session_opened(RpcSession *session, gpointer driver);
void procedures_session_closed(RpcSession *session, gpointer driver);
void procedures_events_stop(Client *client);
void procedures_registration_free(gpointer registration);

Client *procedures_client(RpcCall *call);
Driver *procedures_driver(RpcCall *call);

// The domain that a call names (by its UUID): a reference, unlocked.
Domain *procedures_domain(RpcCall *call, const WireDomain *wire, GError **error);
void procedures_encode_domain(WireDomain *wire, Domain *domain);
// Answers with the domain (`ret` is a WireDomainRet), whose reference it takes; FALSE for NULL.
gboolean procedures_answer_domain(void *ret, Domain *domain);
void procedures_job_params(const JobStats *stats, RpcParams *params);

#define HANDLER(name) gboolean name(RpcCall *call, const void *args, void *ret, GError **error)

HANDLER(connect_auth_list);
HANDLER(connect_open);
HANDLER(connect_nothing);
HANDLER(connect_get_type);
HANDLER(connect_get_version);
HANDLER(connect_get_lib_version);
HANDLER(connect_get_hostname);
HANDLER(connect_get_uri);
HANDLER(connect_get_max_vcpus);
HANDLER(connect_get_capabilities);
HANDLER(connect_is_secure);
HANDLER(connect_supports_feature);
HANDLER(connect_get_domain_capabilities);
HANDLER(node_get_info);
HANDLER(node_get_cpu_map);
HANDLER(node_get_free_memory);
HANDLER(node_get_security_model);

HANDLER(domain_num_of_active);
HANDLER(domain_num_of_defined);
HANDLER(domain_list_ids);
HANDLER(domain_list_defined);
HANDLER(domain_list_all);
HANDLER(domain_lookup_id);
HANDLER(domain_lookup_name);
HANDLER(domain_lookup_uuid);
HANDLER(domain_define);
HANDLER(domain_define_flags);
HANDLER(domain_create_xml);
HANDLER(domain_create);
HANDLER(domain_create_flags);
HANDLER(domain_undefine);
HANDLER(domain_undefine_flags);
HANDLER(domain_destroy);
HANDLER(domain_destroy_flags);
HANDLER(domain_shutdown);
HANDLER(domain_shutdown_flags);
HANDLER(domain_reboot);
HANDLER(domain_reset);
HANDLER(domain_suspend);
HANDLER(domain_resume);
HANDLER(domain_get_xml);
HANDLER(domain_get_info);
HANDLER(domain_get_state);
HANDLER(domain_get_os_type);
HANDLER(domain_get_max_memory);
HANDLER(domain_get_max_vcpus);
HANDLER(domain_get_vcpus_flags);
HANDLER(domain_get_autostart);
HANDLER(domain_set_autostart);
HANDLER(domain_get_active);
HANDLER(domain_get_persistent);
HANDLER(domain_get_updated);
HANDLER(domain_answer_none);
HANDLER(domain_get_managed_save);
HANDLER(domain_get_messages);
HANDLER(domain_open_console);
HANDLER(domain_get_control_info);
HANDLER(domain_get_vcpus);
HANDLER(domain_get_metadata);
HANDLER(domain_set_metadata);
HANDLER(domain_get_security_label);
HANDLER(domain_get_job_info);
HANDLER(domain_get_job_stats);
HANDLER(domain_abort_job);
HANDLER(domain_abort_job_flags);

HANDLER(save_domain_plain);
HANDLER(save_domain_flags);
HANDLER(save_domain_params);
HANDLER(save_restore_plain);
HANDLER(save_restore_flags);
HANDLER(save_restore_params);
HANDLER(save_image_get_xml);
HANDLER(save_image_define);
HANDLER(save_managed);
HANDLER(save_managed_remove);
HANDLER(save_managed_get_xml);
HANDLER(save_managed_define);

HANDLER(domain_get_all_stats);
HANDLER(domain_block_stats);
HANDLER(domain_block_stats_flags);
HANDLER(domain_interface_stats);
HANDLER(domain_get_block_info);
HANDLER(domain_memory_stats);

HANDLER(network_list_all_wire);
HANDLER(network_num);
HANDLER(network_num_defined);
HANDLER(network_names);
HANDLER(network_names_defined);
HANDLER(network_lookup_name);
HANDLER(network_lookup_uuid);
HANDLER(network_get_xml);
HANDLER(network_define);
HANDLER(network_undefine);
HANDLER(network_create);
HANDLER(network_destroy);
HANDLER(network_get_autostart);
HANDLER(network_get_active);
HANDLER(network_get_persistent);
HANDLER(network_set_autostart);
HANDLER(network_get_bridge_name);

HANDLER(event_register);
HANDLER(event_deregister);
HANDLER(event_register_network);
HANDLER(event_deregister_network);
HANDLER(event_register_monitor);
HANDLER(event_deregister_monitor);

HANDLER(quasar_net_list);
HANDLER(quasar_migration_list);
HANDLER(quasar_migration_resolve);

HANDLER(migrate_begin);
HANDLER(migrate_prepare);
HANDLER(migrate_perform);
HANDLER(migrate_finish);
HANDLER(migrate_confirm);
HANDLER(migrate_set_max_downtime);
HANDLER(migrate_get_max_downtime);
HANDLER(migrate_set_max_speed);
HANDLER(migrate_get_max_speed);
