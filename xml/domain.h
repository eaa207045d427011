// SPDX-License-Identifier: LGPL-2.1-or-later
// The domain document: `<domain>` as a C structure, and its way from and to XML.
#pragma once

#include <glib.h>

// Everything in a DomainDef is owned by it. Strings that the document leaves out are NULL, numbers 0,
// tristates TRISTATE_ABSENT. Source: libvirt's format of domain documents (formatdomain). No thread rules: a
// definition has no locks, the owner serialises.

typedef enum {
    TRISTATE_ABSENT = 0,
    TRISTATE_ON,
    TRISTATE_OFF,
} Tristate;

typedef enum {
    DOMAIN_VIRT_QEMU = 0,
    DOMAIN_VIRT_KVM,
} DomainVirtType;

typedef enum {
    DOMAIN_LIFECYCLE_DEFAULT = 0,
    DOMAIN_LIFECYCLE_DESTROY,
    DOMAIN_LIFECYCLE_RESTART,
    DOMAIN_LIFECYCLE_PRESERVE,
    DOMAIN_LIFECYCLE_RENAME_RESTART,
} DomainLifecycle;

typedef enum {
    DOMAIN_ADDRESS_NONE = 0,
    DOMAIN_ADDRESS_PCI,
    DOMAIN_ADDRESS_DRIVE,
    DOMAIN_ADDRESS_VIRTIO_SERIAL,
    DOMAIN_ADDRESS_USB,
    DOMAIN_ADDRESS_SPAPR_VIO,
} DomainAddressType;

typedef struct DomainAddress DomainAddress;
struct DomainAddress {
    DomainAddressType type;
    guint domain;           // PCI
    guint bus;              // PCI, drive, virtio-serial, USB
    guint slot;             // PCI
    guint function;         // PCI
    Tristate multifunction; // PCI
    guint controller;       // drive, virtio-serial
    guint target;           // drive
    guint unit;             // drive
    guint port;             // virtio-serial, USB
    guint reg;              // spapr-vio
};

// What every device has. `boot_order` is 0 when absent, else from 1.
typedef struct DomainDeviceInfo DomainDeviceInfo;
struct DomainDeviceInfo {
    char *alias;
    DomainAddress address;
    guint boot_order;
};

typedef enum {
    DOMAIN_DISK_DISK = 0,
    DOMAIN_DISK_CDROM,
} DomainDiskDevice;

typedef enum {
    DOMAIN_STORAGE_FILE = 0,
    DOMAIN_STORAGE_BLOCK,
} DomainStorageType;

typedef enum {
    DOMAIN_BUS_VIRTIO = 0,
    DOMAIN_BUS_SATA,
    DOMAIN_BUS_IDE,
    DOMAIN_BUS_SCSI,
    DOMAIN_BUS_USB,
} DomainDiskBus;

// One image of a chain. `format` is "raw", "qcow2" or NULL (not given: to be probed). `backing` NULL with
// `backing_terminated` is the explicit end `<backingStore/>`.
typedef struct DomainImage DomainImage;
struct DomainImage {
    DomainStorageType type;
    char *path; // NULL for an empty CD-ROM drive
    char *format;
    DomainImage *backing;
    gboolean backing_terminated;
};

typedef struct DomainDisk DomainDisk;
struct DomainDisk {
    DomainDiskDevice device;
    DomainDiskBus bus;
    DomainImage image;
    char *cache;   // none, writeback, writethrough, directsync, unsafe; NULL: default
    char *discard; // unmap, ignore
    char *io;      // threads, native, io_uring
    char *detect_zeroes;
    char *error_policy;
    char *target; // vda
    char *serial;
    gboolean readonly;
    gboolean shareable;
    DomainDeviceInfo info;
};

typedef enum {
    DOMAIN_CONTROLLER_PCI = 0,
    DOMAIN_CONTROLLER_VIRTIO_SERIAL,
    DOMAIN_CONTROLLER_USB,
    DOMAIN_CONTROLLER_SATA,
    DOMAIN_CONTROLLER_IDE,
} DomainControllerType;

typedef struct DomainController DomainController;
struct DomainController {
    DomainControllerType type;
    int index;   // -1 until assigned
    char *model; // pcie-root, pcie-root-port, pci-root, qemu-xhci, none, ...; NULL when the type has but one
    char *model_name; // `<model name=>`, as pcie-root-port
    int chassis;      // -1 absent
    int port;         // -1 absent
    int target_index; // of pseries' PCI host bridges; -1 absent
    DomainDeviceInfo info;
};

typedef enum {
    DOMAIN_INTERFACE_NETWORK = 0,
    DOMAIN_INTERFACE_DIRECT,
    DOMAIN_INTERFACE_USER,
} DomainInterfaceType;

// The NIC's feature set, which is guest ABI: `<driver><host .../><guest .../></driver>`.
typedef struct DomainNicFeatures DomainNicFeatures;
struct DomainNicFeatures {
    Tristate host_csum, host_gso, host_tso4, host_tso6, host_ecn, host_ufo, mrg_rxbuf;
    Tristate guest_csum, guest_tso4, guest_tso6, guest_ecn, guest_ufo;
};

typedef struct DomainInterface DomainInterface;
struct DomainInterface {
    DomainInterfaceType type;
    guint8 mac[6];
    gboolean has_mac;
    char *network;     // type network
    char *source_dev;  // type direct; the host's NIC
    char *source_mode; // type direct: bridge, vepa, private, passthrough
    char *model;       // virtio, e1000e, ...
    char *target_dev;  // kept when live, dropped from inactive documents when it is a generated name
    char *driver_name; // virtio on the network: "vhost", the frames are in the guest's memory, or "qemu"
    DomainNicFeatures features;
    Tristate link; // ON: up, OFF: down
    guint mtu;     // 0: absent
    DomainDeviceInfo info;
};

// A serial port or a console. `source_path` and `tty` live only in running guests' documents.
typedef struct DomainChardev DomainChardev;
struct DomainChardev {
    gboolean console;
    char *source_path;  // the pty's path, NULL when not running
    char *target_type;  // serial: isa-serial, spapr-vio-serial; console: serial or virtio
    char *target_model; // serial: isa-serial, spapr-vty
    int target_port;    // -1 until assigned
    DomainDeviceInfo info;
};

typedef struct DomainMemballoon DomainMemballoon;
struct DomainMemballoon {
    char *model; // "virtio" or "none"; NULL: no element
    DomainDeviceInfo info;
};

typedef struct DomainRng DomainRng;
struct DomainRng {
    char *model;        // virtio
    char *backend_path; // /dev/urandom (model random)
    DomainDeviceInfo info;
};

typedef struct DomainCpuFeature DomainCpuFeature;
struct DomainCpuFeature {
    char *name;
    char *policy; // require, disable, optional, forbid, force
};

typedef enum {
    DOMAIN_CPU_ABSENT = 0,
    DOMAIN_CPU_CUSTOM,
    DOMAIN_CPU_HOST_MODEL,
    DOMAIN_CPU_HOST_PASSTHROUGH,
    DOMAIN_CPU_MAXIMUM,
} DomainCpuMode;

typedef struct DomainCpu DomainCpu;
struct DomainCpu {
    DomainCpuMode mode;
    char *match;    // exact, minimum, strict
    char *check;    // none, partial, full
    char *model;    // qemu64
    char *fallback; // allow, forbid
    guint sockets;  // 0: no topology
    guint dies;
    guint cores;
    guint threads;
    GPtrArray *features; // DomainCpuFeature
};

typedef struct DomainTimer DomainTimer;
struct DomainTimer {
    char *name;       // rtc, pit, hpet, tsc, kvmclock
    char *tickpolicy; // delay, catchup, merge, discard
    char *track;
    Tristate present;
};

typedef enum {
    DOMAIN_CLOCK_UTC = 0,
    DOMAIN_CLOCK_LOCALTIME,
    DOMAIN_CLOCK_VARIABLE,
} DomainClockOffset;

typedef struct DomainDef DomainDef;
struct DomainDef {
    DomainVirtType virt_type;
    char *name;
    char *uuid; // canonical lower-case text; NULL until given or assigned
    guint8 uuid_bytes[16];
    char *title;
    char *description;
    char *metadata; // the whole `<metadata>` element, verbatim; NULL when absent

    guint64 memory_kib;
    guint64 current_memory_kib; // 0: as memory_kib
    guint vcpus;                // current
    guint max_vcpus;

    char *arch;              // x86_64, i686, ppc64, ppc64le
    char *machine;           // pc-q35-7.2, pseries-7.2 after assignment
    GPtrArray *boot_devices; // char *: hd, cdrom, network, fd
    char *kernel;
    char *initrd;
    char *cmdline;

    gboolean acpi, apic, pae;
    DomainCpu cpu;

    DomainClockOffset clock;
    gint64 clock_adjustment; // seconds, variable only
    GPtrArray *timers;       // DomainTimer

    DomainLifecycle on_poweroff, on_reboot, on_crash;
    Tristate suspend_to_mem, suspend_to_disk; // <pm>: whether ACPI offers S3 and S4

    char *emulator;
    GPtrArray *disks;       // DomainDisk
    GPtrArray *controllers; // DomainController
    GPtrArray *interfaces;  // DomainInterface
    GPtrArray *serials;     // DomainChardev
    GPtrArray *consoles;    // DomainChardev
    DomainMemballoon memballoon;
    GPtrArray *rngs; // DomainRng
};

// The emulator's facts that assignment needs; all borrowed.
typedef struct DomainDefaults DomainDefaults;
struct DomainDefaults {
    const char *arch;            // host's default guest architecture, "x86_64"
    const char *const *archs;    // NULL-terminated; NULL: only `arch`
    const char *emulator;        // path written when the document names none
    const char *default_machine; // "q35" when NULL
    // The versioned name of a machine ("q35" -> "pc-q35-7.2"), NULL when the emulator does not have it.
    // Caller frees. NULL function: names are taken as they are.
    char *(*canonical_machine)(const char *arch, const char *machine, gpointer opaque);
    // Fills bytes with random data; NULL: the system's generator. Tests make documents repeatable with it.
    void (*random_bytes)(guint8 *bytes, gsize size, gpointer opaque);
    gpointer opaque;
    gboolean vhost; // the emulator can have network interfaces of <driver name='vhost'>
};

enum {
    DOMAIN_FORMAT_INACTIVE = 1 << 0,   // nothing of the run: no id, pty paths, aliases
    DOMAIN_FORMAT_MIGRATABLE = 1 << 1, // for another host: inactive's omissions, aliases and formats kept
    DOMAIN_FORMAT_SECURE = 1 << 2,     // accepted; First light's documents have no secrets
};

// Empty, with all arrays; devices are allocated with g_new0 and belong to the array that they are added to.
DomainDef *domain_def_new(void);
void domain_disk_free(DomainDisk *disk);
void domain_controller_free(DomainController *controller);
void domain_interface_free(DomainInterface *interface);
void domain_chardev_free(DomainChardev *chardev);
void domain_rng_free(DomainRng *rng);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainDisk, domain_disk_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainController, domain_controller_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainInterface, domain_interface_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainChardev, domain_chardev_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainRng, domain_rng_free)

void domain_def_free(DomainDef *def);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainDef, domain_def_free)

// Whether its frames are in the guest's memory (vhost-user), once assigned.
gboolean domain_interface_is_vhost(const DomainInterface *interface);
// The first feature of a NIC that makes the host do the guest's work, "host csum"; NULL: it is portable.
const char *domain_interface_offload(const DomainInterface *interface);

// A deep copy with run-time parts. Caller frees.
DomainDef *domain_def_copy(const DomainDef *def);

// Parses a document, also one of libvirt's. VIR_ERR_XML_ERROR for what is malformed or missing,
// VIR_ERR_CONFIG_UNSUPPORTED for elements that matter and are not supported, both naming the element; nothing
// is assigned. A `<domain>`'s id attribute is ignored.
DomainDef *domain_def_parse(const char *xml, GError **error);

// Gives everything that guest ABI consists of and that the document left open: uuid, MACs, versioned machine,
// CPU model, controllers, PCI addresses, aliases, NIC features, console pairing. Idempotent; formatting the
// result and parsing it again gives the same definition.
gboolean domain_def_assign(DomainDef *def, const DomainDefaults *defaults, GError **error);

// The document. id is written when not negative and DOMAIN_FORMAT_INACTIVE is not given. Caller frees.
char *domain_def_format(const DomainDef *def, guint flags, int id);

// A run-time status document: `<domstatus KEY='VALUE' ...>` around the live document. `pairs` is a
// NULL-terminated list of key, value, key, value. Keys are attribute names. Caller frees.
char *domain_def_format_status(const DomainDef *def, int id, const char *const *pairs);

// Reads one back: the definition, *id (-1 when absent) and *pairs (a GHashTable of char * to char *).
// id and pairs may be NULL. Caller owns both.
DomainDef *domain_def_parse_status(const char *xml, int *id, GHashTable **pairs, GError **error);

// An image of a chain, allocated; frees the images below it too.
DomainImage *domain_image_new(DomainStorageType type, const char *path, const char *format);
void domain_image_free(DomainImage *image);

// Names as they stand in documents.
const char *domain_virt_type_name(DomainVirtType type);
const char *domain_disk_bus_name(DomainDiskBus bus);
const char *domain_lifecycle_name(DomainLifecycle action);
const char *domain_controller_type_name(DomainControllerType type);

// The MAC as 52:54:00:aa:bb:cc. Caller frees.
char *domain_mac_format(const guint8 mac[6]);

// NULL for a name that can be a file name and a QEMU name (as with libvirt it may begin with '-'); else what
// is wrong with it, in words that follow "the name": empty, too long, '/', control characters, leading '.'.
const char *domain_name_problem(const char *name);

// Text of a UUID with or without dashes to bytes. false when it is none.
gboolean domain_uuid_parse(const char *text, guint8 bytes[16]);
char *domain_uuid_format(const guint8 bytes[16]);

// Devices by alias or target; borrowed, NULL when absent.
DomainDisk *domain_find_disk(const DomainDef *def, const char *target);
DomainChardev *domain_find_console(const DomainDef *def, const char *alias); // NULL alias: the first
