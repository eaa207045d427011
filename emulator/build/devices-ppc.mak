# The devices of the bundled emulator for PowerPC guests: what emulator/devices.c can ask for, and no other.
# The board brings its virtual terminals, its SCSI adapter, its non-volatile memory and its interrupt controllers with it.
CONFIG_PSERIES=y
# The board cannot be without, though no guest gets one.
CONFIG_NVDIMM=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_BALLOON=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_SERIAL=y
CONFIG_USB_XHCI_PCI=y
CONFIG_E1000_PCI=y
CONFIG_RTL8139_PCI=y
