/* core/store/mongo/driver.h - the driver's own set-up, once a process. */
#ifndef EXJ_CORE_STORE_MONGO_DRIVER_H
#define EXJ_CORE_STORE_MONGO_DRIVER_H

/* Before anything of the driver is used; costs nothing when it was done. What the driver says
 * goes to core/base/log at level debug, never to standard error. It stays set up until the
 * process ends: it cannot be set up twice, and its threads may outlive main. Threads: any. */
void exj_mongo_driver_start(void);

#endif /* EXJ_CORE_STORE_MONGO_DRIVER_H */
