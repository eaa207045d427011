# SPDX-License-Identifier: LGPL-2.1-or-later
"""What rounds that measured two things each tell about the ratio of the two.

Values of one round share the machine's state, so that ratios are made within a round; their logarithms, of which a doubling
and a halving are equally far from nothing, are taken to be spread normally, and Student's t gives the interval.
"""
import math
import statistics

# 97.5 % of Student's distribution with 1, 2, ... degrees of freedom; from there on it hardly changes.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09,
           2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04)


class Ratio:
    """A ratio and the interval that holds the true one at 95 %; endless when there was one round only."""

    def __init__(self, logarithms):
        mean, self.rounds = statistics.fmean(logarithms), len(logarithms)
        half = math.inf
        if self.rounds > 1:
            t = STUDENT[min(self.rounds - 1, len(STUDENT)) - 1]
            half = t * statistics.stdev(logarithms) / math.sqrt(self.rounds)
        self.value, self.low = math.exp(mean), math.exp(mean - half)
        self.high = math.exp(mean + half) if half < 700 else math.inf

    def __str__(self):
        return '%.2f (%.2f-%.2f)' % (self.value, self.low, self.high)

    def verdict(self, wanted):
        """What can be said of a ratio that is to be at least `wanted`."""
        if self.low >= wanted:
            return 'shown'
        return 'missed' if self.high < wanted else 'not told from noise'


def logarithms(above, below):
    """Of two rows of values, one of each round."""
    return [math.log(a / b) for a, b in zip(above, below)]


def ratio(above, below):
    return Ratio(logarithms(above, below))


def geometric_mean(pairs):
    """Of several figures' ratios; `pairs`: (above, below) of each. Figures of one round are not independent, rounds are."""
    rounds = zip(*(logarithms(above, below) for above, below in pairs))
    return Ratio([statistics.fmean(of_round) for of_round in rounds])
