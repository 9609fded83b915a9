"""Figures. Modules here import matplotlib, so import them where something is drawn."""
