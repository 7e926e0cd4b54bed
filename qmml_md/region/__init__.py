"""Where the ensemble is not trusted: the policy that moves Region A and the cluster cut from it."""
