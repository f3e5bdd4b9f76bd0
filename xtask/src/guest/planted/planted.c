// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A driver with bugs on purpose, for QEMU's "edu" device.
 *
 * Its probe takes memory of each kind: managed coherent memory, coherent memory, a mapping. Its removal gives back what is
 * not managed, with the bug that the parameter "bug" names:
 *
 *   none	no bug
 *   leak	the coherent memory is not freed
 *   size	the coherent memory is freed with half of its size
 *   twice	the mapping is unmapped twice
 *   late	the coherent memory is freed after the unbind, when the parameter "free" is written
 *   ops	the device's translated DMA is switched off before the managed memory is released
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/version.h>

#define COHERENT (4 * PAGE_SIZE)
#define MANAGED PAGE_SIZE

static char *bug = "none";
module_param(bug, charp, 0444);

struct planted {
	struct device *dev;
	void *coherent;
	dma_addr_t coherent_dma;
	void *buffer;
	dma_addr_t buffer_dma;
};

/* What "late" keeps beyond the unbind. */
static struct planted kept;

static bool has(const char *name)
{
	return !strcmp(bug, name);
}

static int planted_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct device *dev = &pdev->dev;
	struct planted *planted;
	dma_addr_t managed_dma;
	int err;

	err = pcim_enable_device(pdev);
	if (err)
		return err;
	err = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(32));
	if (err)
		return err;
	planted = devm_kzalloc(dev, sizeof(*planted), GFP_KERNEL);
	if (!planted)
		return -ENOMEM;
	planted->dev = dev;
	if (!dmam_alloc_coherent(dev, MANAGED, &managed_dma, GFP_KERNEL))
		return -ENOMEM;
	planted->coherent = dma_alloc_coherent(dev, COHERENT, &planted->coherent_dma, GFP_KERNEL);
	if (!planted->coherent)
		return -ENOMEM;
	planted->buffer = devm_kmalloc(dev, PAGE_SIZE, GFP_KERNEL);
	if (!planted->buffer)
		goto free;
	planted->buffer_dma = dma_map_single(dev, planted->buffer, PAGE_SIZE, DMA_TO_DEVICE);
	if (dma_mapping_error(dev, planted->buffer_dma))
		goto free;
	pci_set_drvdata(pdev, planted);
	return 0;
free:
	dma_free_coherent(dev, COHERENT, planted->coherent, planted->coherent_dma);
	return -ENOMEM;
}

static void switch_translation_off(struct device *dev)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	dev->dma_iommu = false;
#else
	set_dma_ops(dev, NULL);
#endif
}

static void planted_remove(struct pci_dev *pdev)
{
	struct planted *planted = pci_get_drvdata(pdev);
	struct device *dev = &pdev->dev;

	dma_unmap_single(dev, planted->buffer_dma, PAGE_SIZE, DMA_TO_DEVICE);
	if (has("twice"))
		dma_unmap_single(dev, planted->buffer_dma, PAGE_SIZE, DMA_TO_DEVICE);
	if (has("late")) {
		get_device(dev);
		kept = *planted;
	} else if (!has("leak")) {
		dma_free_coherent(dev, has("size") ? COHERENT / 2 : COHERENT, planted->coherent,
				  planted->coherent_dma);
	}
	if (has("ops"))
		switch_translation_off(dev);
}

static int free_late(const char *value, const struct kernel_param *param)
{
	if (!kept.coherent)
		return -ENODATA;
	dma_free_coherent(kept.dev, COHERENT, kept.coherent, kept.coherent_dma);
	put_device(kept.dev);
	kept.coherent = NULL;
	return 0;
}

static const struct kernel_param_ops free_ops = { .set = free_late };
module_param_cb(free, &free_ops, NULL, 0200);

static const struct pci_device_id planted_ids[] = { { PCI_DEVICE(0x1234, 0x11e8) }, {} };
MODULE_DEVICE_TABLE(pci, planted_ids);

static struct pci_driver planted_driver = {
	.name = "planted",
	.id_table = planted_ids,
	.probe = planted_probe,
	.remove = planted_remove,
};
module_pci_driver(planted_driver);

MODULE_DESCRIPTION("Bugs on purpose, for the auditor's tests");
MODULE_LICENSE("Dual MIT/GPL");
