"""The RayService of k8s/: its serve config is configs/cluster.yaml, and it is checked strictly."""
