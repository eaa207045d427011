# The devices of the bundled emulator: what emulator/devices.c can ask for, and no other.
# Boards bring their own chipset (RTC, PIC, PIT, HPET, IDE or AHCI, ISA serial ports) with them.
CONFIG_I440FX=y
CONFIG_Q35=y
CONFIG_HPET=y
# Made by the boards where they are built in: a plain emulator's stream has them.
CONFIG_VMPORT=y
CONFIG_VMMOUSE=y
CONFIG_PCIE_PORT=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_BALLOON=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_SERIAL=y
CONFIG_USB_XHCI_PCI=y
CONFIG_E1000_PCI=y
CONFIG_E1000E_PCI_EXPRESS=y
CONFIG_RTL8139_PCI=y
CONFIG_VMXNET3_PCI=y
