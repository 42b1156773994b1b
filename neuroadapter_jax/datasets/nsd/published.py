"""Published values of NSD, to hold what was read against; nothing is computed from them.

Sources: the NSD Data Manual (cvnlab.slite.page: Technical notes, General information) for numbers
of sessions, trials and images; brain-score's packaging of NSD (its fsaverage notebook) for the
median ncsnr by subject, whose mean noise ceiling of 36 % is the one of Allen et al. (2022),
doi:10.1038/s41593-021-00962-x; Brain-Diffuser (Ozcelik and VanRullen, 2023) for the 982 test
images of 37 sessions; BERG (Gifford) for 9000/485/515.
"""

SUBJECTS = range(1, 9)
TRIALS_PER_SESSION = 750
RUNS_PER_SESSION = 12
SESSIONS = dict(zip(SUBJECTS, (40, 40, 32, 30, 40, 32, 40, 30), strict=True))
# What nsd_expdesign.mat describes; a design of other sizes is another experiment's.
DESIGN_TRIALS, DESIGN_SUBJECTS, DESIGN_IMAGES, NUM_SHARED = 30_000, 8, 10_000, 1_000
NUM_IMAGES = 73_000

# Images that each subject saw at least once, twice, three times.
IMAGES_SEEN = {
    1: dict(zip(SUBJECTS, (10000, 10000, 9411, 9209, 10000, 9411, 10000, 9209), strict=True)),
    2: dict(zip(SUBJECTS, (10000, 10000, 8355, 7846, 10000, 8355, 10000, 7846), strict=True)),
    3: dict(zip(SUBJECTS, (10000, 10000, 6234, 5445, 10000, 6234, 10000, 5445), strict=True)),
}
SHARED_SEEN = dict(zip(SUBJECTS, (1000, 1000, 930, 907, 1000, 930, 1000, 907), strict=True))
# Shared images that all eight subjects saw at least once, twice, three times.
SHARED_SEEN_BY_ALL = {1: 907, 2: 766, 3: 515}
DISTINCT_IMAGES = 70_566  # over all subjects
SHARED_RANGE = (2_951, 72_949)  # smallest and largest 73k ID (from 1) of the shared images

# 0-based 73k ids of the first trials.
FIRST_IMAGES = {1: (46002, 61882, 828, 67573, 16020, 40422, 51517, 62325, 50610, 55065)}

# Over the vertices of "nsdgeneral" on fsaverage, both hemispheres, betas_fithrf_GLMdenoise_RR.
NSDGENERAL_VERTICES = 37_984
MEDIAN_NCSNR = dict(
    zip(SUBJECTS, (0.490, 0.510, 0.431, 0.392, 0.542, 0.439, 0.371, 0.323), strict=True)
)
# Noise ceiling of the average of three trials there, in percent.
MEDIAN_CEILING = dict(zip(SUBJECTS, (41.9, 43.8, 35.8, 31.6, 46.9, 36.6, 29.2, 23.8), strict=True))

# (training, validation, test) of a subject with 40 sessions.
SPECIAL515 = (9_000, 485, 515)
# Images of 37 sessions: not shared, shared.
SHARED982_OF_37_SESSIONS = (8_859, 982)
