"""Modules that stand in pruned modules, by torch alone; exported files hold their source."""
