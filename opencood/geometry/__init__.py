"""Poses, boxes, IoU, NMS, anchors, targets, voxels and warps: pure functions on arrays and tensors."""
