"""Serves a model by replicas: ``replica`` computes, ``client`` asks and recovers, ``deployment`` runs both on Ray."""
