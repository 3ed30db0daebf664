"""Airflow's four components on this machine's loopback: started, watched, ended together."""
