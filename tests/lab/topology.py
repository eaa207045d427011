# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which places a lab has, on which subnet each is, and how they are addressed."""

# The last part of a place's addresses, on whatever subnet it is.
NUMBERS = {'hostA': 1, 'hostB': 2, 'hostC': 3, 'client': 9, 'client2': 19, 'guest': 50, 'router': 254}


def prefix(subnet):
    return '10.77.%d' % (0 if subnet == 1 else subnet)


class Topology:
    """`members`: place -> number of its subnet. The guest's home is subnet 1."""

    def __init__(self, members):
        self.members = dict(members)
        self.subnets = tuple(sorted(set(members.values())))
        self.hosts = tuple(name for name in members if name.startswith('host'))
        self.routed = len(self.subnets) > 1
        self.switches = tuple(map(self.switch_of_subnet, self.subnets))

    @staticmethod
    def switch_of_subnet(subnet):
        return 'switch' if subnet == 1 else 'switch%d' % subnet

    def subnet(self, name):
        """Of a place or a switch, and of the guest at home."""
        if name in self.switches:
            return self.subnets[self.switches.index(name)]
        return 1 if name == 'guest' else self.members[name]

    def switch(self, name):
        """The place that is a member's switch."""
        return self.switch_of_subnet(self.subnet(name))

    def address(self, name):
        return '%s.%d' % (prefix(self.subnet(name)), NUMBERS[name])

    def address6(self, name):
        """None where the only IPv6 is what hosts give themselves."""
        return 'fd77:0:0:%d::%d' % (self.subnet(name), NUMBERS[name]) if self.routed else None

    @staticmethod
    def gateway(subnet):
        return '%s.%d' % (prefix(subnet), NUMBERS['router'])

    @staticmethod
    def gateway6(subnet):
        return 'fd77:0:0:%d::%d' % (subnet, NUMBERS['router'])

    @property
    def places(self):
        """All, in the order in which they come up."""
        return self.switches + (('router',) if self.routed else ()) + tuple(self.members)


TOPOLOGIES = {
    # One switch.
    'segment': Topology({'hostA': 1, 'hostB': 1, 'client': 1}),
    'segment3': Topology({'hostA': 1, 'hostB': 1, 'hostC': 1, 'client': 1}),
    # Three switches, which nothing but a router connects.
    'routed': Topology({'hostA': 1, 'client': 1, 'hostB': 2, 'client2': 2, 'hostC': 3}),
}


def all_addresses(name):
    """Each that a host has in one topology or another."""
    found = []
    for topology in TOPOLOGIES.values():
        if name in topology.members:
            found += [address for address in (topology.address(name), topology.address6(name)) if address]
    return sorted(set(found))
