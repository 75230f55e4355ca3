"""What the peers make of bench_mask's files: scikit-image's watershed on the same markers, and the
threshold method of Muschelli et al. 2015 (0..100 HU, Gaussian of 1 mm, again 0..100 HU) with the
largest component of an opening instead of bet2, which Debian does not have.
    mask_peers.py DIR [ITK_SECONDS]"""
import sys
import time

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

NZ, NY, NX = 170, 512, 512


def raw(name, dtype=np.uint8):
    return np.fromfile(f"{sys.argv[1]}/{name}", dtype)


def compare(name, label, ours, marker, seconds):
    other = label != ours
    print(f"flood of {NX} x {NY} x {NZ}: {name} {seconds:.2f} s of CPU, "
          f"{100 * other.mean():.4f} % of the voxels differ "
          f"({100 * other.sum() / (marker == 0).sum():.2f} % of the flooded)")


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def threshold_method(hu, spacing):
    sigma = [1 / s for s in spacing]
    soft = (hu >= 0) & (hu <= 100)
    smooth = ndimage.gaussian_filter(np.where(soft, hu, 0).astype(np.float32), sigma)
    soft = (smooth > 0) & (smooth <= 100) & soft

    def within(mask, mm):
        return ndimage.distance_transform_edt(~mask, sampling=spacing) <= mm

    core = ~within(~soft, 6)
    label, _ = ndimage.label(core)
    core = label == 1 + np.bincount(label.ravel())[1:].argmax()
    brain = within(core, 7) & soft
    brain = ~within(~within(brain, 5), 5)
    return ndimage.binary_fill_holes(brain)


def main():
    level, marker, ours = (raw(n).reshape(NZ, NY, NX) for n in ("level", "marker", "label"))
    if len(sys.argv) > 2:
        compare("ITK", raw("itk").reshape(ours.shape), ours, marker, float(sys.argv[2]))
    begin = time.process_time()
    label = watershed(level, marker.astype(np.int32))
    compare("scikit-image", label, ours, marker, time.process_time() - begin)
    del level, marker, ours, label
    grid = open(f"{sys.argv[1]}/grid").read().split()
    shape = [int(v) for v in grid[2::-1]]
    spacing = [float(v) for v in grid[:2:-1]]
    hu = raw("ct", np.int16).reshape(shape)
    begin = time.process_time()
    peer = threshold_method(hu, spacing)
    seconds = time.process_time() - begin
    ml = np.prod(spacing) / 1000
    for name in ("brain", "known"):
        brain = raw(name).reshape(shape) > 0
        print(f"brain of the real head{', with reference' if name == 'known' else ''}: "
              f"{brain.sum() * ml:.0f} ml, threshold method {peer.sum() * ml:.0f} ml "
              f"({seconds:.1f} s of CPU), Dice {dice(brain, peer):.4f}")


main()
