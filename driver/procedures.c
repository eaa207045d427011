// SPDX-License-Identifier: LGPL-2.1-or-later
// The tables of all programs' procedures, and what their handlers share.
#include "driver/procedures.h"

#include <string.h>

#include "driver/domains.h"
#include "driver/lifecycle.h"
#include "driver/migration/migration.h"
#include "driver/procedure_names.h"
#include "driver/rpc/quasar.h"

#define RO   RPC_READ_ONLY_OK
#define FAST RPC_PRIORITY
#define PRE  RPC_BEFORE_OPEN
#define ROW  RPC_PROCEDURE

static const RpcProcedure procedures[] = {
    ROW(WIRE_CONNECT_OPEN, "virConnectOpen", WireOpenArgs, RpcVoid, RO | FAST | RPC_OPENS, connect_open),
    ROW(WIRE_CONNECT_CLOSE, "virConnectClose", RpcVoid, RpcVoid, RO | FAST | RPC_CLOSES, connect_nothing),
    ROW(WIRE_CONNECT_GET_TYPE, "virConnectGetType", RpcVoid, WireTextRet, RO | FAST, connect_get_type),
    ROW(WIRE_CONNECT_GET_VERSION, "virConnectGetVersion", RpcVoid, WireHyperRet, RO, connect_get_version),
    ROW(WIRE_CONNECT_GET_MAX_VCPUS, "virConnectGetMaxVcpus", WireGetMaxVcpusArgs, WireIntRet, RO | FAST,
        connect_get_max_vcpus),
    ROW(WIRE_NODE_GET_INFO, "virNodeGetInfo", RpcVoid, WireNodeInfoRet, RO | FAST, node_get_info),
    ROW(WIRE_CONNECT_GET_CAPABILITIES, "virConnectGetCapabilities", RpcVoid, WireTextRet, RO,
        connect_get_capabilities),
    ROW(WIRE_DOMAIN_CREATE, "virDomainCreate", WireDomainArgs, RpcVoid, 0, domain_create),
    ROW(WIRE_DOMAIN_CREATE_XML, "virDomainCreateXML", WireTextFlagsArgs, WireDomainRet, 0, domain_create_xml),
    ROW(WIRE_DOMAIN_DEFINE_XML, "virDomainDefineXML", WireTextArgs, WireDomainRet, 0, domain_define),
    ROW(WIRE_DOMAIN_DESTROY, "virDomainDestroy", WireDomainArgs, RpcVoid, FAST, domain_destroy),
    ROW(WIRE_DOMAIN_GET_XML_DESC, "virDomainGetXMLDesc", WireDomainFlagsArgs, WireTextRet, RO,
        domain_get_xml),
    ROW(WIRE_DOMAIN_GET_AUTOSTART, "virDomainGetAutostart", WireDomainArgs, WireIntRet, RO | FAST,
        domain_get_autostart),
    ROW(WIRE_DOMAIN_GET_INFO, "virDomainGetInfo", WireDomainArgs, WireDomainInfoRet, RO, domain_get_info),
    ROW(WIRE_DOMAIN_GET_MAX_MEMORY, "virDomainGetMaxMemory", WireDomainArgs, WireHyperRet, RO | FAST,
        domain_get_max_memory),
    ROW(WIRE_DOMAIN_GET_MAX_VCPUS, "virDomainGetMaxVcpus", WireDomainArgs, WireIntRet, RO | FAST,
        domain_get_max_vcpus),
    ROW(WIRE_DOMAIN_GET_OS_TYPE, "virDomainGetOSType", WireDomainArgs, WireTextRet, RO | FAST,
        domain_get_os_type),
    ROW(WIRE_DOMAIN_GET_VCPUS, "virDomainGetVcpus", WireDomainVcpusArgs, WireDomainVcpusRet, RO,
        domain_get_vcpus),
    ROW(WIRE_CONNECT_LIST_DEFINED_DOMAINS, "virConnectListDefinedDomains", WireIntArgs, WireNamesRet,
        RO | FAST, domain_list_defined),
    ROW(WIRE_DOMAIN_LOOKUP_BY_ID, "virDomainLookupByID", WireIntArgs, WireDomainRet, RO | FAST,
        domain_lookup_id),
    ROW(WIRE_DOMAIN_LOOKUP_BY_NAME, "virDomainLookupByName", WireTextArgs, WireDomainRet, RO | FAST,
        domain_lookup_name),
    ROW(WIRE_DOMAIN_LOOKUP_BY_UUID, "virDomainLookupByUUID", WireUuidArgs, WireDomainRet, RO | FAST,
        domain_lookup_uuid),
    ROW(WIRE_CONNECT_NUM_OF_DEFINED_DOMAINS, "virConnectNumOfDefinedDomains", RpcVoid, WireIntRet, RO | FAST,
        domain_num_of_defined),
    ROW(WIRE_DOMAIN_REBOOT, "virDomainReboot", WireDomainFlagsArgs, RpcVoid, 0, domain_reboot),
    ROW(WIRE_DOMAIN_RESUME, "virDomainResume", WireDomainArgs, RpcVoid, 0, domain_resume),
    ROW(WIRE_DOMAIN_SET_AUTOSTART, "virDomainSetAutostart", WireDomainIntArgs, RpcVoid, 0,
        domain_set_autostart),
    ROW(WIRE_DOMAIN_SHUTDOWN, "virDomainShutdown", WireDomainArgs, RpcVoid, 0, domain_shutdown),
    ROW(WIRE_DOMAIN_SUSPEND, "virDomainSuspend", WireDomainArgs, RpcVoid, 0, domain_suspend),
    ROW(WIRE_DOMAIN_UNDEFINE, "virDomainUndefine", WireDomainArgs, RpcVoid, 0, domain_undefine),
    ROW(WIRE_CONNECT_LIST_DOMAINS, "virConnectListDomains", WireIntArgs, WireListDomainsRet, RO | FAST,
        domain_list_ids),
    ROW(WIRE_CONNECT_LIST_DEFINED_NETWORKS, "virConnectListDefinedNetworks", WireIntArgs, WireNamesRet,
        RO | FAST, network_names_defined),
    ROW(WIRE_CONNECT_LIST_NETWORKS, "virConnectListNetworks", WireIntArgs, WireNamesRet, RO | FAST,
        network_names),
    ROW(WIRE_NETWORK_CREATE, "virNetworkCreate", WireNetworkArgs, RpcVoid, 0, network_create),
    ROW(WIRE_NETWORK_DEFINE_XML, "virNetworkDefineXML", WireTextArgs, WireNetworkRet, 0, network_define),
    ROW(WIRE_NETWORK_DESTROY, "virNetworkDestroy", WireNetworkArgs, RpcVoid, 0, network_destroy),
    ROW(WIRE_NETWORK_GET_XML_DESC, "virNetworkGetXMLDesc", WireNetworkFlagsArgs, WireTextRet, RO | FAST,
        network_get_xml),
    ROW(WIRE_NETWORK_GET_AUTOSTART, "virNetworkGetAutostart", WireNetworkArgs, WireIntRet, RO | FAST,
        network_get_autostart),
    ROW(WIRE_NETWORK_GET_BRIDGE_NAME, "virNetworkGetBridgeName", WireNetworkArgs, WireTextRet, RO | FAST,
        network_get_bridge_name),
    ROW(WIRE_NETWORK_LOOKUP_BY_NAME, "virNetworkLookupByName", WireTextArgs, WireNetworkRet, RO | FAST,
        network_lookup_name),
    ROW(WIRE_NETWORK_LOOKUP_BY_UUID, "virNetworkLookupByUUID", WireUuidArgs, WireNetworkRet, RO | FAST,
        network_lookup_uuid),
    ROW(WIRE_NETWORK_SET_AUTOSTART, "virNetworkSetAutostart", WireNetworkIntArgs, RpcVoid, 0,
        network_set_autostart),
    ROW(WIRE_NETWORK_UNDEFINE, "virNetworkUndefine", WireNetworkArgs, RpcVoid, 0, network_undefine),
    ROW(WIRE_CONNECT_NUM_OF_DEFINED_NETWORKS, "virConnectNumOfDefinedNetworks", RpcVoid, WireIntRet,
        RO | FAST, network_num_defined),
    ROW(WIRE_CONNECT_NUM_OF_DOMAINS, "virConnectNumOfDomains", RpcVoid, WireIntRet, RO | FAST,
        domain_num_of_active),
    ROW(WIRE_CONNECT_NUM_OF_NETWORKS, "virConnectNumOfNetworks", RpcVoid, WireIntRet, RO | FAST, network_num),
    ROW(WIRE_DOMAIN_RESTORE, "virDomainRestore", WireTextArgs, RpcVoid, 0, save_restore_plain),
    ROW(WIRE_DOMAIN_SAVE, "virDomainSave", WireDomainTextArgs, RpcVoid, 0, save_domain_plain),
    ROW(WIRE_CONNECT_GET_HOSTNAME, "virConnectGetHostname", RpcVoid, WireTextRet, RO, connect_get_hostname),
    ROW(WIRE_CONNECT_SUPPORTS_FEATURE, "virConnectSupportsFeature", WireIntArgs, WireIntRet, RO | FAST | PRE,
        connect_supports_feature),
    ROW(WIRE_DOMAIN_BLOCK_STATS, "virDomainBlockStats", WireDomainPathArgs, WireDomainBlockStatsRet, RO,
        domain_block_stats),
    ROW(WIRE_DOMAIN_INTERFACE_STATS, "virDomainInterfaceStats", WireDomainPathArgs,
        WireDomainInterfaceStatsRet, RO, domain_interface_stats),
    ROW(WIRE_AUTH_LIST, "virConnectAuthList", RpcVoid, WireAuthListRet, RO | FAST | PRE, connect_auth_list),
    ROW(WIRE_NODE_GET_FREE_MEMORY, "virNodeGetFreeMemory", RpcVoid, WireHyperRet, RO | FAST,
        node_get_free_memory),
    ROW(WIRE_CONNECT_GET_URI, "virConnectGetURI", RpcVoid, WireTextRet, RO | FAST, connect_get_uri),
    ROW(WIRE_DOMAIN_GET_SECURITY_LABEL, "virDomainGetSecurityLabel", WireDomainArgs,
        WireDomainSecurityLabelRet, RO | FAST, domain_get_security_label),
    ROW(WIRE_NODE_GET_SECURITY_MODEL, "virNodeGetSecurityModel", RpcVoid, WireNodeSecurityModelRet, RO | FAST,
        node_get_security_model),
    ROW(WIRE_CONNECT_IS_SECURE, "virConnectIsSecure", RpcVoid, WireIntRet, RO | FAST, connect_is_secure),
    ROW(WIRE_DOMAIN_IS_ACTIVE, "virDomainIsActive", WireDomainArgs, WireIntRet, RO | FAST, domain_get_active),
    ROW(WIRE_DOMAIN_IS_PERSISTENT, "virDomainIsPersistent", WireDomainArgs, WireIntRet, RO | FAST,
        domain_get_persistent),
    ROW(WIRE_NETWORK_IS_ACTIVE, "virNetworkIsActive", WireNetworkArgs, WireIntRet, RO | FAST,
        network_get_active),
    ROW(WIRE_NETWORK_IS_PERSISTENT, "virNetworkIsPersistent", WireNetworkArgs, WireIntRet, RO | FAST,
        network_get_persistent),
    ROW(WIRE_CONNECT_GET_LIB_VERSION, "virConnectGetLibVersion", RpcVoid, WireHyperRet, RO | FAST,
        connect_get_lib_version),
    ROW(WIRE_DOMAIN_MEMORY_STATS, "virDomainMemoryStats", WireDomainMemoryStatsArgs, WireDomainMemoryStatsRet,
        RO, domain_memory_stats),
    ROW(WIRE_DOMAIN_GET_JOB_INFO, "virDomainGetJobInfo", WireDomainArgs, WireDomainJobInfoRet, RO,
        domain_get_job_info),
    ROW(WIRE_DOMAIN_ABORT_JOB, "virDomainAbortJob", WireDomainArgs, RpcVoid, 0, domain_abort_job),
    ROW(WIRE_DOMAIN_MIGRATE_SET_MAX_DOWNTIME, "virDomainMigrateSetMaxDowntime", WireDomainHyperFlagsArgs,
        RpcVoid, 0, migrate_set_max_downtime),
    ROW(WIRE_DOMAIN_MANAGED_SAVE, "virDomainManagedSave", WireDomainFlagsArgs, RpcVoid, 0, save_managed),
    ROW(WIRE_DOMAIN_HAS_MANAGED_SAVE_IMAGE, "virDomainHasManagedSaveImage", WireDomainFlagsArgs, WireIntRet,
        RO, domain_get_managed_save),
    ROW(WIRE_DOMAIN_MANAGED_SAVE_REMOVE, "virDomainManagedSaveRemove", WireDomainFlagsArgs, RpcVoid, 0,
        save_managed_remove),
    ROW(WIRE_DOMAIN_SNAPSHOT_NUM, "virDomainSnapshotNum", WireDomainFlagsArgs, WireIntRet, RO,
        domain_answer_none),
    ROW(WIRE_DOMAIN_GET_BLOCK_INFO, "virDomainGetBlockInfo", WireDomainBlockInfoArgs, WireDomainBlockInfoRet,
        RO, domain_get_block_info),
    ROW(WIRE_DOMAIN_CREATE_WITH_FLAGS, "virDomainCreateWithFlags", WireDomainFlagsArgs, WireDomainRet, 0,
        domain_create_flags),
    ROW(WIRE_DOMAIN_GET_VCPUS_FLAGS, "virDomainGetVcpusFlags", WireDomainFlagsArgs, WireIntRet, RO,
        domain_get_vcpus_flags),
    ROW(WIRE_DOMAIN_OPEN_CONSOLE, "virDomainOpenConsole", WireDomainOpenConsoleArgs, RpcVoid, 0,
        domain_open_console),
    ROW(WIRE_DOMAIN_IS_UPDATED, "virDomainIsUpdated", WireDomainArgs, WireIntRet, RO | FAST,
        domain_get_updated),
    ROW(WIRE_DOMAIN_MIGRATE_SET_MAX_SPEED, "virDomainMigrateSetMaxSpeed", WireDomainHyperFlagsArgs, RpcVoid,
        0, migrate_set_max_speed),
    ROW(WIRE_DOMAIN_GET_STATE, "virDomainGetState", WireDomainFlagsArgs, WireDomainStateRet, RO | FAST,
        domain_get_state),
    ROW(WIRE_DOMAIN_GET_CONTROL_INFO, "virDomainGetControlInfo", WireDomainFlagsArgs,
        WireDomainControlInfoRet, RO | FAST, domain_get_control_info),
    ROW(WIRE_DOMAIN_UNDEFINE_FLAGS, "virDomainUndefineFlags", WireDomainFlagsArgs, RpcVoid, 0,
        domain_undefine_flags),
    ROW(WIRE_DOMAIN_SAVE_FLAGS, "virDomainSaveFlags", WireDomainSaveArgs, RpcVoid, 0, save_domain_flags),
    ROW(WIRE_DOMAIN_RESTORE_FLAGS, "virDomainRestoreFlags", WireDomainRestoreArgs, RpcVoid, 0,
        save_restore_flags),
    ROW(WIRE_DOMAIN_SAVE_IMAGE_GET_XML_DESC, "virDomainSaveImageGetXMLDesc", WireTextFlagsArgs, WireTextRet,
        0, save_image_get_xml),
    ROW(WIRE_DOMAIN_SAVE_IMAGE_DEFINE_XML, "virDomainSaveImageDefineXML", WireSaveImageDefineArgs, RpcVoid, 0,
        save_image_define),
    ROW(WIRE_DOMAIN_DESTROY_FLAGS, "virDomainDestroyFlags", WireDomainFlagsArgs, RpcVoid, FAST,
        domain_destroy_flags),
    ROW(WIRE_DOMAIN_MIGRATE_GET_MAX_SPEED, "virDomainMigrateGetMaxSpeed", WireDomainFlagsArgs, WireHyperRet,
        RO, migrate_get_max_speed),
    ROW(WIRE_DOMAIN_BLOCK_STATS_FLAGS, "virDomainBlockStatsFlags", WireDomainBlockStatsFlagsArgs,
        WireDomainBlockStatsFlagsRet, RO, domain_block_stats_flags),
    ROW(WIRE_DOMAIN_RESET, "virDomainReset", WireDomainFlagsArgs, RpcVoid, 0, domain_reset),
    ROW(WIRE_DOMAIN_SHUTDOWN_FLAGS, "virDomainShutdownFlags", WireDomainFlagsArgs, RpcVoid, 0,
        domain_shutdown_flags),
    ROW(WIRE_DOMAIN_SET_METADATA, "virDomainSetMetadata", WireDomainSetMetadataArgs, RpcVoid, 0,
        domain_set_metadata),
    ROW(WIRE_DOMAIN_GET_METADATA, "virDomainGetMetadata", WireDomainMetadataArgs, WireTextRet, RO,
        domain_get_metadata),
    ROW(WIRE_CONNECT_LIST_ALL_DOMAINS, "virConnectListAllDomains", WireListArgs, WireListAllDomainsRet,
        RO | FAST, domain_list_all),
    ROW(WIRE_CONNECT_LIST_ALL_NETWORKS, "virConnectListAllNetworks", WireListArgs, WireListAllNetworksRet,
        RO | FAST, network_list_all_wire),
    ROW(WIRE_NODE_GET_CPU_MAP, "virNodeGetCPUMap", WireNodeCpuMapArgs, WireNodeCpuMapRet, RO,
        node_get_cpu_map),
    ROW(WIRE_DOMAIN_GET_JOB_STATS, "virDomainGetJobStats", WireDomainFlagsArgs, WireDomainJobStatsRet, RO,
        domain_get_job_stats),
    ROW(WIRE_DOMAIN_MIGRATE_BEGIN3_PARAMS, "virDomainMigrateBegin3Params", WireMigrateBeginArgs,
        WireMigrateBeginRet, 0, migrate_begin),
    ROW(WIRE_DOMAIN_MIGRATE_PREPARE3_PARAMS, "virDomainMigratePrepare3Params", WireMigratePrepareArgs,
        WireMigratePrepareRet, 0, migrate_prepare),
    ROW(WIRE_DOMAIN_MIGRATE_PERFORM3_PARAMS, "virDomainMigratePerform3Params", WireMigratePerformArgs,
        WireMigratePerformRet, 0, migrate_perform),
    ROW(WIRE_DOMAIN_MIGRATE_FINISH3_PARAMS, "virDomainMigrateFinish3Params", WireMigrateFinishArgs,
        WireMigrateFinishRet, 0, migrate_finish),
    ROW(WIRE_DOMAIN_MIGRATE_CONFIRM3_PARAMS, "virDomainMigrateConfirm3Params", WireMigrateConfirmArgs,
        RpcVoid, 0, migrate_confirm),
    ROW(WIRE_CONNECT_NETWORK_EVENT_REGISTER_ANY, "virConnectNetworkEventRegisterAny",
        WireNetworkEventRegisterArgs, WireIntRet, RO | FAST, event_register_network),
    ROW(WIRE_CONNECT_NETWORK_EVENT_DEREGISTER_ANY, "virConnectNetworkEventDeregisterAny", WireIntArgs,
        RpcVoid, RO | FAST, event_deregister_network),
    ROW(WIRE_CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, "virConnectDomainEventRegisterAny",
        WireDomainEventRegisterArgs, WireIntRet, RO | FAST, event_register),
    ROW(WIRE_CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY, "virConnectDomainEventDeregisterAny", WireIntArgs,
        RpcVoid, RO | FAST, event_deregister),
    ROW(WIRE_CONNECT_GET_DOMAIN_CAPABILITIES, "virConnectGetDomainCapabilities", WireDomainCapabilitiesArgs,
        WireTextRet, 0, connect_get_domain_capabilities),
    ROW(WIRE_CONNECT_GET_ALL_DOMAIN_STATS, "virConnectGetAllDomainStats", WireDomainStatsArgs,
        WireDomainStatsRet, RO, domain_get_all_stats),
    ROW(WIRE_DOMAIN_DEFINE_XML_FLAGS, "virDomainDefineXMLFlags", WireTextFlagsArgs, WireDomainRet, 0,
        domain_define_flags),
    ROW(WIRE_CONNECT_REGISTER_CLOSE_CALLBACK, "virConnectRegisterCloseCallback", RpcVoid, RpcVoid, RO | FAST,
        connect_nothing),
    ROW(WIRE_CONNECT_UNREGISTER_CLOSE_CALLBACK, "virConnectUnregisterCloseCallback", RpcVoid, RpcVoid,
        RO | FAST, connect_nothing),
    ROW(WIRE_DOMAIN_MIGRATE_GET_MAX_DOWNTIME, "virDomainMigrateGetMaxDowntime", WireDomainFlagsArgs,
        WireHyperRet, RO, migrate_get_max_downtime),
    ROW(WIRE_DOMAIN_MANAGED_SAVE_GET_XML_DESC, "virDomainManagedSaveGetXMLDesc", WireDomainFlagsArgs,
        WireTextRet, RO, save_managed_get_xml),
    ROW(WIRE_DOMAIN_MANAGED_SAVE_DEFINE_XML, "virDomainManagedSaveDefineXML", WireManagedSaveDefineArgs,
        RpcVoid, 0, save_managed_define),
    ROW(WIRE_CONNECT_SET_IDENTITY, "virConnectSetIdentity", WireSetIdentityArgs, RpcVoid, RO | FAST,
        connect_nothing),
    ROW(WIRE_DOMAIN_GET_MESSAGES, "virDomainGetMessages", WireDomainFlagsArgs, WireDomainMessagesRet, RO,
        domain_get_messages),
    ROW(WIRE_DOMAIN_SAVE_PARAMS, "virDomainSaveParams", WireDomainSaveParamsArgs, RpcVoid, 0,
        save_domain_params),
    ROW(WIRE_DOMAIN_RESTORE_PARAMS, "virDomainRestoreParams", WireDomainRestoreParamsArgs, RpcVoid, 0,
        save_restore_params),
    ROW(WIRE_DOMAIN_ABORT_JOB_FLAGS, "virDomainAbortJobFlags", WireDomainFlagsArgs, RpcVoid, 0,
        domain_abort_job_flags),
};

// The guest agent's and the monitor's: events are told, and refusals of the rest say what.
static const RpcProcedure qemu_procedures[] = {
    ROW(WIRE_QEMU_MONITOR_EVENT_REGISTER, "virConnectDomainQemuMonitorEventRegister",
        WireMonitorEventRegisterArgs, WireIntRet, FAST, event_register_monitor),
    ROW(WIRE_QEMU_MONITOR_EVENT_DEREGISTER, "virConnectDomainQemuMonitorEventDeregister", WireIntArgs,
        RpcVoid, FAST, event_deregister_monitor),
};

// What each gives and takes is said in driver/rpc/quasar.x.
static const RpcProcedure quasar_procedures[] = {
    ROW(QUASAR_NET_LIST, "net list", QuasarListArgs, QuasarJsonRet, RO, quasar_net_list),
    ROW(QUASAR_MIGRATION_LIST, "migration list", QuasarListArgs, QuasarJsonRet, RO, quasar_migration_list),
    ROW(QUASAR_MIGRATION_RESOLVE, "migration resolve", QuasarResolveArgs, QuasarJsonRet, 0,
        quasar_migration_resolve),
};

const RpcProgram procedures_programs[] = {
    {RPC_PROGRAM_REMOTE, 1, procedures, G_N_ELEMENTS(procedures), procedure_name_remote},
    {RPC_PROGRAM_QEMU, 1, qemu_procedures, G_N_ELEMENTS(qemu_procedures), procedure_name_qemu},
    {RPC_PROGRAM_QUASAR, 1, quasar_procedures, G_N_ELEMENTS(quasar_procedures), NULL},
};
const gsize procedures_n_programs = G_N_ELEMENTS(procedures_programs);

static void
client_free(gpointer data)
{
    Client *client = data;

    g_ptr_array_unref(client->callbacks);
    g_mutex_clear(&client->lock);
    g_free(client);
}

void
procedures_session_opened(RpcSession *session, gpointer driver)
{
    Client *client = g_new0(Client, 1);

    client->driver = driver;
    client->callbacks = g_ptr_array_new_with_free_func(procedures_registration_free);
    g_mutex_init(&client->lock);
    rpc_session_set_data(session, client, client_free);
}

void
procedures_session_closed(RpcSession *session, gpointer driver)
{
    procedures_events_stop(rpc_session_data(session));
    migration_client_closed(driver, session);
    lifecycle_owner_gone(driver, session);
}

Client *
procedures_client(RpcCall *call)
{
    return rpc_session_data(rpc_call_session(call));
}

Driver *
procedures_driver(RpcCall *call)
{
    return procedures_client(call)->driver;
}

Domain *
procedures_domain(RpcCall *call, const WireDomain *wire, GError **error)
{
    return domain_list_by_uuid(procedures_driver(call)->domains, (const guint8 *) wire->uuid, error);
}

void
procedures_encode_domain(WireDomain *wire, Domain *domain)
{
    domain_lock(domain);
    wire->name = g_strdup(domain->name);
    memcpy(wire->uuid, domain->uuid, sizeof(wire->uuid));
    wire->id = domain->id;
    domain_unlock(domain);
}

gboolean
procedures_answer_domain(void *ret, Domain *domain)
{
    if (!domain)
        return FALSE;
    procedures_encode_domain(&((WireDomainRet *) ret)->dom, domain);
    domain_unref(domain);
    return TRUE;
}
